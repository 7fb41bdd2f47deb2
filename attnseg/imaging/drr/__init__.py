"""CT and nodule masks to DRRs and projected masks: `attnseg drr`, and the phantom's projection.

`reading` brings a CT into a known orientation, `geometry` says where rays run (and traces pixels
back to the CT), `integrals` is the projector, `renderers` what may stand in for it, `masks`
projects nodules by the same rays, `display` makes the picture, `views` does all that for one
view, `jobs` finds the volumes, `outputs` writes and `batch` runs them.
"""

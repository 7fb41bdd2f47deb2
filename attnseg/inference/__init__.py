"""From images to findings: what `attnseg predict` is made of.

`predictor` runs models (ensembles, test-time augmentation, MC dropout) and is what `attnseg
evaluate` uses, too; `inputs`, `grid` and `tiles` bring images to the model and its maps back to
their own grid; `lesions`, `files`, `dicom_seg` and `dicom_capture` write what was found.
"""

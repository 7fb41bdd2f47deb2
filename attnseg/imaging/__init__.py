"""What images are: cases, reading, DICOM, resizing, registration, DRRs, annotations."""

"""What an evaluation shows beyond three numbers: every answer, classes, confusions, mistakes, calibration."""

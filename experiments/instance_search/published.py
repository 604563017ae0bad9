"""Numbers of the DASR deck (July 2020), for comparison of directions only.

They are of other networks on other pictures: photographs, ResNet-50 and VGG-16
trained on ImageNet.
"""

# Name -> mAP on Instance-335 (Top-50, Top-100, all) and on INSTRE.
INSTANCE_SEARCH = {
  "R-MAC": (0.234, 0.315, 0.375, 0.523),
  "CroW": (0.159, 0.225, 0.321, 0.416),
  "CAM": (0.194, 0.263, 0.347, 0.320),
  "BLCF": (0.246, 0.358, 0.483, 0.636),
  "BLCF, salient": (0.245, 0.350, 0.469, 0.698),
  "Regional attention": (0.242, 0.351, 0.488, 0.542),
  "Faster R-CNN for DeepVision": (0.402, 0.521, 0.620, 0.197),
  "Mask R-CNN for FCIS+XD": (0.403, 0.500, 0.593, 0.067),
  "PCL*+SPN": (0.380, 0.475, 0.580, 0.575),
  "DASR": (0.419, 0.558, 0.699, 0.629),
  "DASR*": (0.433, 0.580, 0.724, 0.647),
  "DASR-m": (0.411, 0.533, 0.662, 0.671),
  "DASR-m*": (0.428, 0.560, 0.694, 0.692),
}

# Name -> mAP on Holidays, Oxford5k, Paris6k.
IMAGE_SEARCH = {
  "BoVW+HE": (0.742, 0.503, 0.501),
  "SIFT+VLAD": (0.664, 0.359, 0.391),
  "R-MAC": (None, 0.669, 0.830),
  "CroW": (0.851, 0.708, 0.797),
  "CAM": (0.785, 0.712, 0.805),
  "BLCF": (0.854, 0.722, 0.798),
  "BLCF, salient": (0.835, 0.746, 0.812),
  "Regional attention": (None, 0.768, 0.875),
  "DeepVision": (None, 0.710, 0.798),
  "DASR+VLAD": (0.834, 0.594, 0.690),
  "DASR*+VLAD": (0.873, 0.613, 0.744),
}

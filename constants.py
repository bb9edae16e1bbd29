"""What every module may import: the voxel grid, the classes, their colours.

Arrays over the grid have the axes (X left-right, Y height, Z forward); datasets/geometry.py defines
them in world coordinates.
"""

import numpy as np

GRID = (60, 36, 60)  # voxels along X, Y, Z
NUM_VOXELS = GRID[0] * GRID[1] * GRID[2]
VOXEL_SIZE = 0.08  # metres
FINE_FACTOR = 4  # raw labels and the TSDF are made at 2 cm: four fine voxels a side
FINE_GRID = tuple(FINE_FACTOR * n for n in GRID)

IMAGE_SIZE = (480, 640)  # rows, columns
NUM_PIXELS = IMAGE_SIZE[0] * IMAGE_SIZE[1]
NO_PIXEL = NUM_PIXELS  # in Mapping: a voxel without a pixel
NO_VOXEL = -1  # in mapping2d: a pixel without a voxel

# The Kinect colour camera of NYUv2: made the published TSDF and Mapping of the real depth.
NYU_INTRINSICS = np.array(
    [[518.8579, 0, 325.58], [0, 519.4696, 253.74], [0, 0, 1]], dtype=np.float32
)
# The virtual camera that rendered NYUCAD, and that limits what was labelled.
NYUCAD_INTRINSICS = np.array([[518.8579, 0, 320], [0, 518.8579, 240], [0, 0, 1]], dtype=np.float32)

IGNORE_INDEX = 255  # outside the annotated room: never trained on, never scored
CLASS_NAMES = (
    "empty", "ceiling", "floor", "wall", "window", "chair",
    "bed", "sofa", "table", "tvs", "furn", "objs",
)  # fmt: skip
NUM_CLASSES = len(CLASS_NAMES)
# Voxels of each class with label_weight and a label in NYUv2's 795 training scenes.
NYU_CLASS_VOXELS = (
    7_049_946, 80_205, 1_072_333, 907_680, 116_952, 180_994,
    436_852, 282_264, 255_113, 28_247, 1_806_927, 852_366,
)  # fmt: skip

# RGB of the paper's figures, by class; the first is never drawn.
CLASS_COLORS = (
    (22, 191, 206), (214, 38, 40), (43, 160, 4), (158, 216, 229), (114, 158, 206), (204, 204, 91),
    (255, 186, 119), (147, 102, 188), (30, 119, 181), (188, 188, 33), (255, 127, 12),
    (196, 175, 214),
)  # fmt: skip

SCENE_FORMATS = ("npz", "ply", "glb", "png", "html")  # files of a completed scene

# ImageNet, for RGB in 0..255.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)

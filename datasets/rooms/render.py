"""Cameras for generated rooms: rays by Embree, then depth, textures and light by NumPy.

Depth and colours are computed in double precision from the triangle that Embree names, without
BLAS, so that they do not depend on the machine.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from constants import IMAGE_SIZE
from datasets.raycast import RayTarget, camera_rays
from datasets.rooms.parts import Part, apply, triangles

BORDER = 8  # pixels: the images of NYUv2 have a white frame of about this width
_AMBIENT_REACH = 31  # pixels: what is deeper than its surroundings gets less light


class Sight(NamedTuple):
    """What each of the 480 x 640 pixels sees; rays that miss have part -1 and depth 0."""

    depth: np.ndarray  # (480, 640) float64, metres along z
    part: np.ndarray  # (480, 640) int, index into the parts
    slope: np.ndarray  # (480, 640) float64, cosine between the ray and the surface's normal
    points: np.ndarray  # (307200, 3) float64, world
    normals: np.ndarray  # (307200, 3) float64, of unit length, outwards
    target: RayTarget  # all parts


def cast(parts: list[Part], K: np.ndarray, pose: np.ndarray) -> Sight:
    """See the parts through a camera: K (3, 3), pose (4, 4) camera to world."""
    meshes = [triangles(part) for part in parts]
    owner = np.repeat(np.arange(len(parts)), [len(mesh) for mesh in meshes])
    corners = np.concatenate(meshes)  # (n, 3, 3)
    target = RayTarget(corners)

    pose = pose.astype(np.float64)
    camera, (right, down, forward) = pose[:3, 3], pose[:3, :3].T
    rays = camera_rays(np.asarray(K, dtype=np.float64)).reshape(-1, 3)
    rays = rays[:, :1] * right + (rays[:, 1:2] * down + forward)  # in the world
    hit = target.first(camera, rays)
    # Depth by intersecting the ray with the triangle's plane: exact where Embree's is single.
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.sqrt(_dot(normal, normal))[:, None]
    height, normals = _dot(corners[:, 0] - camera, normal), normal[hit]
    cosine = _dot(rays, normals)
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = height[hit] / cosine
    found = (hit >= 0) & (depth > 0) & (depth < 50)
    depth = np.where(found, depth, 0.0)
    slope = np.abs(cosine) / np.sqrt(_dot(rays, rays))
    part = np.where(found, owner[hit], -1)
    images = (image.reshape(IMAGE_SIZE) for image in (depth, part, slope))
    return Sight(*images, camera + rays * depth[:, None], normals, target)


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of vectors (n, 3): (n,)."""
    return sum(first[:, i] * second[:, i] for i in range(3))


def shade(
    parts: list[Part], view: Sight, room_height: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the colour camera records: rgb (480, 640, 3) uint8, and for the depth camera the
    albedo (480, 640) in 0..1 and the gloss (480, 640) in 0..1.
    """
    owner = view.part.reshape(-1)
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(len(parts) + 1))
    albedo, gloss, glow = np.zeros((owner.size, 3)), np.zeros(owner.size), np.zeros(owner.size)
    lattice = rng.random((32, 32, 32))
    for part, start, stop in zip(parts, first, first[1:], strict=False):
        if start < stop:
            pixels, material = order[start:stop], part.material
            own = apply(part.rotation.T, view.points[pixels] - part.center) / material.scale
            mix = TEXTURES[material.texture](own[:, material.axes], lattice)[:, None]
            one, other = (np.array(color) for color in material.colors)
            albedo[pixels] = one + (other - one) * mix
            gloss[pixels], glow[pixels] = material.gloss, material.glow

    diffuse, highlight = _light(view, gloss, room_height, rng)
    color = albedo * diffuse + (glow * 0.9)[:, None] * (0.4 + 0.6 * albedo) + highlight[:, None]
    rgb = _develop(color.reshape(*IMAGE_SIZE, 3), rng)
    return rgb, albedo.mean(axis=1).reshape(IMAGE_SIZE), gloss.reshape(IMAGE_SIZE)


def _light(
    view: Sight, gloss: np.ndarray, room_height: float, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One or two lamps under the ceiling, the first of which casts shadows, and ambient light.

    Returns what is to be multiplied by the albedo, (n, 3), and what is added to it, (n,).
    """
    tint = 1 + rng.uniform(-0.12, 0.12, size=3)
    hollow = (view.depth - uniform_filter(view.depth, _AMBIENT_REACH)) / 0.6
    ambient = rng.uniform(0.3, 0.5) * (1 - 0.5 * np.clip(hollow, 0, 1).reshape(-1))
    diffuse, highlight = np.repeat(ambient[:, None], 3, axis=1), np.zeros(gloss.size)
    for number in range(int(rng.integers(1, 3))):
        lamp = np.array([rng.uniform(-1.2, 1.2), rng.uniform(-0.5, 2.5), room_height - 0.15])
        power = rng.uniform(0.45, 0.85) if number == 0 else rng.uniform(0.2, 0.4)
        towards = lamp - view.points
        distance = np.sqrt(_dot(towards, towards))
        cosine = np.clip(_dot(view.normals, towards) / distance, 0, 1)
        strength = power / (0.6 + 0.1 * distance**2)
        if number == 0:  # is something between the lamp and the point, which is at distance 1?
            strength *= np.where(view.target.distance(lamp, -towards) < 0.995, 0.35, 1.0)
        diffuse += (strength * cosine)[:, None] * tint
        highlight += 0.25 * gloss * strength * cosine**16
    return diffuse, highlight


def _develop(color: np.ndarray, rng: Generator) -> np.ndarray:
    """Lens, exposure, noise and eight bits; and NYUv2's white border."""
    color = gaussian_filter(color, (0.6, 0.6, 0))
    exposure = 0.62 / max(float(np.percentile(color, 80)), 0.1) * rng.uniform(0.8, 1.2)
    color = np.clip(color * exposure, 0, 1) ** 0.8
    color += rng.normal(0, rng.uniform(0.006, 0.02), size=color.shape)
    image = np.full(color.shape, 255, dtype=np.uint8)
    inner = (slice(BORDER, -BORDER),) * 2
    image[inner] = np.rint(np.clip(color[inner], 0, 1) * 255)
    return image


def _noise(points: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Smooth noise: the lattice interpolated linearly, in two octaves."""
    rough, fine = (
        map_coordinates(lattice, (points * k).T % 32, order=1, mode="grid-wrap") for k in (1, 2.7)
    )
    return np.clip((rough * 2 + fine) / 3 * 2.2 - 0.6, 0, 1)


def _wood(points: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    grain = _noise(points * np.array([0.15, 1.0, 1.0]), lattice)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (points[:, 1] * 0.7 + 0.9 * grain))


# Points (n, 3) in periods, random lattice -> mixture of two colours, 0..1.
TEXTURES = {
    "flat": lambda points, lattice: np.zeros(len(points)),
    "noise": _noise,
    "speckle": lambda points, lattice: _noise(points * 12, lattice),
    "stripes": lambda points, lattice: (points[:, 0] % 1 < 0.5).astype(float),
    "checks": lambda points, lattice: np.floor(points[:, :2] + 0.25).sum(axis=1) % 2,
    "grid": lambda points, lattice: ((points[:, :2] % 1) < 0.06).any(axis=1).astype(float),
    "wood": _wood,
}

"""Cameras for generated rooms: rays by Embree, then depth, textures and light by NumPy.

Depth and colours are computed in double precision from the triangle that Embree names, without
BLAS, so that they do not depend on the machine.
"""

from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

from constants import IMAGE_SIZE
from datasets.rooms import parts as room_parts

BORDER = 8  # pixels: the images of NYUv2 have a white frame of about this width
_AMBIENT_REACH = 31  # pixels: what is deeper than its surroundings gets less light


class View(NamedTuple):
    """What each of the 480 x 640 pixels sees; rays that miss have part -1 and depth 0."""

    depth: np.ndarray  # (480, 640) float64, metres along z
    part: np.ndarray  # (480, 640) int, index into the parts
    slope: np.ndarray  # (480, 640) float64, cosine between the ray and the surface's normal
    points: np.ndarray  # (307200, 3) float64, world
    scene: EmbreeScene


def cast(parts, K, pose):
    """See the parts through a camera: K (3, 3), pose (4, 4) camera to world. Returns View."""
    meshes = [room_parts.triangles(part) for part in parts]
    owner = np.repeat(np.arange(len(parts)), [len(mesh) for mesh in meshes])
    corners = np.concatenate(meshes)  # (n, 3, 3)
    scene = EmbreeScene(robust=True)
    TriangleMesh(scene, corners.astype(np.float32))

    pose = pose.astype(np.float64)
    camera = pose[:3, 3]
    rays = _rays(K, pose)
    hit = scene.run(
        np.broadcast_to(camera, rays.shape).astype(np.float32), rays.astype(np.float32)
    )  # the triangle of each ray, -1 none
    found = hit >= 0
    # Depth by intersecting the ray with the triangle's plane: exact where Embree's is single.
    edges = corners[:, 1:] - corners[:, :1]
    normal = np.cross(edges[:, 0], edges[:, 1])
    normal /= np.sqrt((normal**2).sum(axis=1, keepdims=True))
    height = ((corners[:, 0] - camera) * normal).sum(axis=1)
    chosen = normal[hit]
    cosine = sum(rays[:, i] * chosen[:, i] for i in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(found, height[hit] / cosine, 0.0)
    depth[~(np.isfinite(depth) & (depth > 0) & (depth < 50))] = 0
    found &= depth > 0
    length = np.sqrt(sum(rays[:, i] ** 2 for i in range(3)))
    return View(
        depth.reshape(IMAGE_SIZE),
        np.where(found, owner[hit], -1).reshape(IMAGE_SIZE),
        (np.abs(cosine) / length).reshape(IMAGE_SIZE),
        camera + rays * depth[:, None],
        scene,
    )


def _rays(K, pose):
    """Directions in the world with z = 1 in the camera's frame: (307200, 3) float64."""
    K = np.asarray(K, dtype=np.float64)
    v, u = np.indices(IMAGE_SIZE, dtype=np.float64).reshape(2, -1)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return room_parts.apply(pose[:3, :3], np.stack([x, y, np.ones_like(x)], axis=-1))


def shade(parts, view, room_height, rng):
    """What the colour camera records: rgb (480, 640, 3) uint8, and for the depth camera the
    albedo (480, 640) in 0..1 and the gloss (480, 640) in 0..1.
    """
    owner = view.part.reshape(-1)
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(len(parts) + 1))
    albedo, gloss, glow = np.zeros((owner.size, 3)), np.zeros(owner.size), np.zeros(owner.size)
    normal = np.zeros((owner.size, 3))
    lattice = rng.random((32, 32, 32))
    for index, part in enumerate(parts):
        pixels = order[first[index] : first[index + 1]]
        if not len(pixels):
            continue
        own = room_parts.apply(part.rotation.T, view.points[pixels] - part.center)
        normal[pixels] = room_parts.normals(part, own)
        material = part.material
        mix = TEXTURES[material.texture](own[:, material.axes] / material.scale, lattice)[:, None]
        one, other = (np.array(color) for color in material.colors)
        albedo[pixels] = one + (other - one) * mix
        gloss[pixels], glow[pixels] = material.gloss, material.glow

    diffuse, highlight = _light(view, normal, gloss, room_height, rng)
    color = albedo * diffuse + (glow * 0.9)[:, None] * (0.4 + 0.6 * albedo)
    color += highlight[:, None]
    rgb = _develop(color.reshape(*IMAGE_SIZE, 3), rng)
    return rgb, albedo.mean(axis=1).reshape(IMAGE_SIZE), gloss.reshape(IMAGE_SIZE)


def _light(view, normal, gloss, room_height, rng):
    """One or two lamps under the ceiling, the first of which casts shadows, and ambient light.

    Returns what is to be multiplied by the albedo, (n, 3), and what is added to it, (n,).
    """
    tint = 1 + rng.uniform(-0.12, 0.12, size=3)
    ambient = rng.uniform(0.3, 0.5)
    blurred = uniform_filter(view.depth, _AMBIENT_REACH)
    hollow = np.clip((view.depth - blurred) / 0.6, 0, 1).reshape(-1)
    diffuse = np.repeat((ambient * (1 - 0.5 * hollow))[:, None], 3, axis=1)
    highlight = np.zeros(len(normal))
    for number in range(int(rng.integers(1, 3))):
        lamp = np.array([rng.uniform(-1.2, 1.2), rng.uniform(-0.5, 2.5), room_height - 0.15])
        power = rng.uniform(0.45, 0.85) if number == 0 else rng.uniform(0.2, 0.4)
        towards = lamp - view.points
        distance = np.sqrt((towards**2).sum(axis=1))
        cosine = np.clip((normal * towards).sum(axis=1) / distance, 0, 1)
        strength = power / (0.6 + 0.1 * distance**2)
        if number == 0:
            strength = strength * np.where(_shadowed(view.scene, lamp, view.points), 0.35, 1.0)
        diffuse += (strength * cosine)[:, None] * tint
        highlight += 0.25 * gloss * strength * cosine**16
    return diffuse, highlight


def _shadowed(scene, lamp, points):
    """Whether something is between the lamp and each point: (n,) bool."""
    rays = (points - lamp).astype(np.float32)
    start = np.broadcast_to(lamp, rays.shape).astype(np.float32)
    reach = scene.run(start, rays, query="DISTANCE")  # 1 is the point itself
    return reach < 0.995


def _develop(color, rng):
    """Lens, exposure, noise and eight bits; and NYUv2's white border."""
    color = gaussian_filter(color, (0.6, 0.6, 0))
    exposure = 0.62 / max(float(np.percentile(color, 80)), 0.1) * rng.uniform(0.8, 1.2)
    color = np.clip(color * exposure, 0, 1) ** 0.8
    color += rng.normal(0, rng.uniform(0.006, 0.02), size=color.shape)
    image = np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)
    inner = np.full_like(image, 255)
    inner[BORDER:-BORDER, BORDER:-BORDER] = image[BORDER:-BORDER, BORDER:-BORDER]
    return inner


# ---- textures: points (n, 3) in periods, random lattice -> mixture of two colours, 0..1 -------


def _noise(points, lattice):
    """Smooth noise: the lattice interpolated linearly, in two octaves."""
    rough = [
        map_coordinates(lattice, (points * k).T % 32, order=1, mode="grid-wrap") for k in (1, 2.7)
    ]
    return np.clip((rough[0] * 2 + rough[1]) / 3 * 2.2 - 0.6, 0, 1)


def _wood(points, lattice):
    grain = _noise(points * np.array([0.15, 1.0, 1.0]), lattice)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (points[:, 1] * 0.7 + 0.9 * grain))


TEXTURES = {
    "flat": lambda points, lattice: np.zeros(len(points)),
    "noise": _noise,
    "speckle": lambda points, lattice: _noise(points * 12, lattice),
    "stripes": lambda points, lattice: (points[:, 0] % 1 < 0.5).astype(float),
    "checks": lambda points, lattice: np.floor(points[:, :2] + 0.25).sum(axis=1) % 2,
    "grid": lambda points, lattice: ((points[:, :2] % 1) < 0.06).any(axis=1).astype(float),
    "wood": _wood,
}

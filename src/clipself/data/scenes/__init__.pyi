from .art import load_art as load_art
from .draw import Scene as Scene
from .draw import SceneMaker as SceneMaker
from .export import SceneImages as SceneImages
from .export import write_scenes as write_scenes

__all__ = ["Scene", "SceneImages", "SceneMaker", "load_art", "write_scenes"]

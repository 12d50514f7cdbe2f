from .examples import Example as Example
from .examples import Examples as Examples
from .examples import list_examples as list_examples
from .find import FoundPicture as FoundPicture
from .find import FoundPictures as FoundPictures
from .find import find_pictures as find_pictures
from .find import read_all as read_all
from .folder import find_maps as find_maps
from .formats import SUFFIXES as SUFFIXES
from .maps import IGNORED as IGNORED
from .maps import IGNORED_16 as IGNORED_16
from .maps import check_size as check_size
from .maps import read_index_map as read_index_map
from .maps import read_segment_ids as read_segment_ids
from .maps import segment_colours as segment_colours
from .maps import write_index_map as write_index_map
from .names import distinct_names as distinct_names
from .read import Picture as Picture
from .read import list_pictures as list_pictures
from .read import read_image as read_image
from .read import size_of as size_of
from .video import Frame as Frame
from .video import Video as Video
from .video import read_video as read_video

__all__ = [
    "IGNORED",
    "IGNORED_16",
    "SUFFIXES",
    "Example",
    "Examples",
    "FoundPicture",
    "FoundPictures",
    "Frame",
    "Picture",
    "Video",
    "check_size",
    "distinct_names",
    "find_maps",
    "find_pictures",
    "list_examples",
    "list_pictures",
    "read_all",
    "read_image",
    "read_index_map",
    "read_segment_ids",
    "read_video",
    "segment_colours",
    "size_of",
    "write_index_map",
]

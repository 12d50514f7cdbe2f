"""Which parameters learn: chosen by object, never by a match on names."""

from torch import nn

from clipself.backbones.readouts import Readout, find_readout, unread_parameters
from clipself.backbones.trunk import Trunk


def train_last_blocks(trunk: Trunk, num_blocks: int, *, readout: str | Readout = "value") -> list[nn.Parameter]:
    """Freezes the whole tower but for its last blocks and returns the parameters that will learn.

    Convolution, class token, positions, final norm and head stay frozen (CLIPSelf, released recipe). Parameters of the
    last block that the readout does not use stay frozen too: they would never receive a gradient.

    Args:
        trunk: The student's tower.
        num_blocks: How many blocks learn, counted from the end; 0 freezes everything.
        readout: The readout that the loss will see.

    Raises:
        ValueError: There are fewer blocks than asked for.
    """
    if not 0 <= num_blocks <= trunk.depth:
        raise ValueError(
            f"cannot train the last {num_blocks} blocks of a trunk of {trunk.depth}; choose 0 to {trunk.depth}"
        )
    trunk.tower.requires_grad_(False)
    for block in list(trunk.blocks)[trunk.depth - num_blocks :]:  # blocks[-0:] would be every block
        block.requires_grad_(True)
    for parameter in unread_parameters(trunk, readout=find_readout(readout)):
        parameter.requires_grad_(False)
    return [parameter for parameter in trunk.tower.parameters() if parameter.requires_grad]

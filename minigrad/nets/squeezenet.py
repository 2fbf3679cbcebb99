"""SqueezeNet v1.1 with batch normalization for 32 x 32 images (Iandola et al. 2016; Benjamin et al. 2018, 2019)."""

from ..autodiff.conv import Window
from .convnet import Convolution, Fire, GlobalAverage, MaxPool, convnet
from .normalization import BatchNorm


def squeezenet(
    activation="relu",
    init=None,
    normalization=BatchNorm(),
    dropout=None,
    classes=10,
    image=(32, 32, 3),
    output="linear",
    width=64,
):
    """A convolution, eight Fire modules, a 1 x 1 convolution to one map a class, whose mean is the logit.

    733,514 parameters, work 24 million. Layers and their widths are v1.1's: with 1000 classes they have its 1,235,496
    weights and biases.
    Chosen, for 32 x 32 images: the first convolution keeps the size of the image (v1.1: stride 2), and pools are 2 x 2
    (v1.1: 3 x 3 with stride 2 and sizes rounded up, which gives the same 16, 8 and 4 pixels); the papers say neither.
    Each hidden layer is normalized, in a Fire module all three, as SqueezeNets with batch normalization have it.
    Logits are linear, for those behind v1.1's last relu cannot be negative: output="relu" has it. v1.1's dropout, of
    the last Fire module's maps alone, is left out; `dropout` is that of all hidden layers. width: maps of the first
    convolution, 64 in v1.1, with which those of all others grow.
    """
    fire = lambda times: Fire(times * width // 4, times * width, times * width)
    stages = [Convolution(width, Window(3, padding=1)), MaxPool(2), fire(1), fire(1), MaxPool(2)]
    stages += [fire(2), fire(2), MaxPool(2), fire(3), fire(3), fire(4), fire(4)]
    stages += [Convolution(classes, 1), GlobalAverage()]
    return convnet(image, stages, activation, output, init, normalization, dropout)

"""The convolutional nets of the papers' experiments; SqueezeNet is in `squeezenet`.

No paper says all that it takes to build its net. Each function says what the paper states, and what is chosen here;
no paper names these nets' activations or initial weights, so they are relu and He's. All take

    activation, init, normalization, dropout        as `convnet` does
    classes                                         outputs, logits under a Categorical loss
    widths                                          maps and hidden units, to make the net narrower

Parameters and work (multiply-adds of a forward pass, a sample) are those of the defaults.
"""

from ..autodiff.conv import Window
from .convnet import Convolution, Dense, MaxPool, convnet
from .normalization import BatchNorm


def mnist_convnet(activation="relu", init=None, normalization=None, dropout=None, classes=10, widths=(32, 64, 750)):
    """Pascanu & Bengio, section 8.6: 32 and 64 filters of 5 x 5, then 750 hidden units, for 28 x 28 digits.

    828,356 parameters, work 4.5 million. Chosen: pooling, which the paper does not mention, is 2 x 2 max pooling
    behind each convolution; no padding, so that maps are 24, 12, 8 and 4 wide.
    """
    a, b, c = widths
    stages = [Convolution(a, 5), MaxPool(2), Convolution(b, 5), MaxPool(2), Dense(c), Dense(classes)]
    return convnet((28, 28, 1), stages, activation, "linear", init, normalization, dropout)


def large_filter_convnet(
    activation="relu", init=None, normalization=None, dropout=None, classes=10, pool=4, widths=(300, 2048, 1024)
):
    """Pascanu & Bengio, section 8.7: 300 filters of 12 x 12, then 2048 and 1024 hidden units.

    11,984,374 parameters, work 25 million. Theirs saw the faces of TFD (7 classes), this one 28 x 28 images. Chosen:
    max pooling in windows of `pool`, which the paper does not mention. 17 x 17 places become 4 x 4, the last row and
    column left out; without pooling one matrix would have 178 million numbers.
    """
    a, b, c = widths
    stages = [Convolution(a, 12), MaxPool(pool), Dense(b), Dense(c), Dense(classes)]
    return convnet((28, 28, 1), stages, activation, "linear", init, normalization, dropout)


def three_layer_convnet(activation="relu", init=None, normalization=BatchNorm(), dropout=None, classes=10):
    """Benjamin et al. 2018, figure 3: "a 3-layer convolutional neural network with batch normalization", for MNIST.

    29,034 parameters, work 2.9 million. Chosen: all but the words in quotes. Two convolutions, 16 and 32 filters of
    5 x 5 that keep the size of the map, each with 2 x 2 max pooling, and a dense layer.
    """
    same = Window(5, padding=2)
    stages = [Convolution(16, same), MaxPool(2), Convolution(32, same), MaxPool(2), Dense(classes)]
    return convnet((28, 28, 1), stages, activation, "linear", init, normalization, dropout)


def six_layer_convnet(
    activation="relu",
    init=None,
    normalization=BatchNorm(),
    dropout=None,
    classes=10,
    image=(32, 32, 3),
    widths=(32, 64, 256),
):
    """Benjamin et al. 2019, figures 1-3: four convolutions with batch normalization, then two dense layers (CIFAR-10).

    1,117,866 parameters, work 26 million. Without batch normalization (figure A.4): normalization=None. For MNIST
    (figure B.6, whose net the paper does not describe further): image=(28, 28, 1).
    Chosen: filters of 3 x 3 that keep the size of the map, 32, 32, 64, 64; 2 x 2 max pooling behind the second and the
    fourth; 256 hidden units, which are normalized too.
    """
    same, (a, b, c) = Window(3, padding=1), widths
    stages = [Convolution(a, same), Convolution(a, same), MaxPool(2)]
    stages += [Convolution(b, same), Convolution(b, same), MaxPool(2), Dense(c), Dense(classes)]
    return convnet(image, stages, activation, "linear", init, normalization, dropout)


def vgg(activation="relu", init=None, normalization=None, dropout=None, classes=10, width=64):
    """Desjardins et al. 2015, section 4.3: "a deep convolutional model inspired by the VGG architecture", for crops.

    2,330,698 parameters, work 87 million. VGG (Simonyan & Zisserman 2015) is 3 x 3 convolutions that keep the size of
    the map, 2 x 2 max pooling between blocks of them, twice the maps in the next block, dense layers on top. Chosen:
    three blocks of two convolutions, with `width`, 2 and 4 times `width` maps on 24 x 24, 12 x 12 and 6 x 6 pixels;
    8 times `width` hidden units.
    """
    same, stages = Window(3, padding=1), []
    for maps in (width, 2 * width, 4 * width):
        stages += [Convolution(maps, same), Convolution(maps, same), MaxPool(2)]
    stages += [Dense(8 * width), Dense(classes)]
    return convnet((24, 24, 3), stages, activation, "linear", init, normalization, dropout)

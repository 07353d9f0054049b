"""What the specs of Wan's models share. No torch: the web process reads them."""

from app.contract.family import Aspect

ASPECTS = (
    Aspect(name="square", width=640, height=640),
    Aspect(name="portrait", width=480, height=832),
    Aspect(name="landscape", width=832, height=480),
)
NEGATIVE = (
    "bad quality, low quality, worst quality, jpeg artifacts, blurry, pixelated, out of focus, "
    "watermark, text, signature"
)

"""A broad list of ordinary tags, so that the tokenizer knows the words people caption with.

The scenes use some eighty words. A tokenizer of those alone would spell everything else
in letters, and ten tags would overflow the 75 tokens. The words below are paired within
their kind ("red dress", "stone bridge") to some thousands of tags.
"""

from functools import cache
from itertools import product

from worker.starter.scenes import COLOURS, GROUNDS, STYLES, THINGS, TIMES, WEATHERS

_COLOUR_WORDS = (
    "red orange yellow green blue purple pink white black grey brown beige cream gold silver aqua "
    "teal turquoise crimson scarlet maroon ochre amber ivory violet lilac lavender indigo olive "
    "lime navy bronze copper blonde auburn pastel rainbow dark light pale bright"
).split()
_MATERIALS = (
    "stone wooden brick marble iron wrought-iron steel glass clay terracotta ceramic paper leather "
    "woollen velvet silk lace linen cotton denim fur gold silver copper brass bronze plastic "
    "concrete plaster straw wicker bamboo thatched tiled mossy rusty weathered painted carved"
).split()
_BUILDINGS = (
    "house cottage villa farmhouse barn tower castle palace church chapel cathedral abbey monastery "
    "temple shrine mosque pagoda lighthouse windmill watermill bridge aqueduct fountain well wall "
    "gate archway arch courtyard cloister balcony terrace veranda porch roof chimney dome spire "
    "steeple battlement turret column pillar stairs staircase door doorway window shutter facade "
    "street alley lane square piazza plaza market shop bakery cafe restaurant tavern inn hotel "
    "library museum theatre school station harbour dock pier boathouse cabin hut tent shed garage "
    "factory skyscraper apartment building ruins statue monument obelisk graveyard tombstone fence "
    "railing lantern lamppost streetlight signpost bench awning greenhouse gazebo pergola trellis "
    "stable mill forge village town city suburb skyline cityscape"
).split()
_NATURE = (
    "hill hills mountain mountains valley cliff cave canyon plateau plain meadow field pasture forest "
    "woods grove jungle swamp marsh desert dune oasis beach shore coast island lagoon bay sea ocean "
    "lake pond river stream creek waterfall spring glacier iceberg volcano lava rock rocks boulder "
    "pebble sand mud dirt path trail road grass moss fern bush hedge ivy vine vines vineyard olive "
    "tree trees pine oak birch maple willow palm cypress cedar spruce bamboo branch twig root trunk "
    "leaf leaves petal petals flower flowers blossom rose tulip lily daisy poppy sunflower lavender "
    "violet orchid iris hydrangea camellia dandelion clover lotus cactus mushroom wheat corn barley "
    "orchard garden park horizon sky cloud clouds sun moon star stars sunbeam rainbow fog mist haze "
    "rain snow ice frost storm thunder lightning wind dew puddle wave waves reflection shadow smoke "
    "fire flame sparks ember dust"
).split()
_LIGHT = (
    "sunlight moonlight candlelight backlighting sidelighting daylight twilight dusk dawn sunrise "
    "sunset noon midday midnight morning evening afternoon night day overcast cloudy sunny rainy "
    "snowy foggy misty stormy windy starry hazy golden-hour blue-hour dappled glowing shimmering "
    "sparkling silhouette spotlight neon bloom glow lens-flare god-rays"
).split()
_SEASONS = "spring summer autumn winter halloween christmas easter harvest festival".split()
_PLACES = (
    "tuscany tuscan italy italian france french provence spain spanish greece greek japan japanese "
    "china chinese england english scotland ireland germany norway iceland alps mediterranean europe "
    "european asia asian africa america american medieval gothic baroque renaissance roman victorian "
    "edwardian ancient modern futuristic rural urban rustic coastal alpine tropical arctic "
    "countryside downtown oriental nordic venetian florentine sicilian"
).split()
_ANIMALS = (
    "cat kitten dog puppy fox wolf bear rabbit hare mouse rat squirrel hedgehog deer stag doe horse "
    "foal pony donkey cow bull goat sheep lamb pig chicken rooster hen duck goose swan owl eagle hawk "
    "falcon crow raven sparrow robin pigeon dove parrot peacock penguin seagull flamingo heron crane "
    "lion tiger leopard panther cheetah elephant giraffe zebra hippo rhino monkey gorilla panda koala "
    "kangaroo sloth camel llama otter beaver badger bat frog toad turtle tortoise lizard gecko snake "
    "crocodile dragon unicorn griffin phoenix dinosaur fish goldfish koi shark whale dolphin seal "
    "octopus squid jellyfish crab lobster shrimp snail butterfly moth bee wasp ladybug beetle ant "
    "spider dragonfly firefly"
).split()
_CLOTHES = (
    "shirt t-shirt blouse sweater hoodie jacket coat raincoat cardigan vest dress sundress gown skirt "
    "miniskirt pants trousers jeans shorts leggings stockings socks thighhighs pantyhose shoes boots "
    "sneakers sandals heels slippers hat cap beret bonnet hood helmet crown tiara headband hairband "
    "ribbon bow scarf shawl cape cloak robe kimono yukata uniform suit tuxedo tie necktie bowtie belt "
    "apron gloves mittens armor gauntlets bracelet necklace choker earrings ring brooch glasses "
    "sunglasses goggles mask veil umbrella parasol bag handbag backpack satchel purse watch"
).split()
_BODY = (
    "hair eyes skin lips eyelashes eyebrows nails wings horns tail ears fur feathers beard mustache freckles"
).split()
_HAIR = (
    "long short medium very-long curly wavy straight messy braided spiky flowing wet floating "
    "gradient multicolored streaked"
).split()
_HAIR_WORDS = (
    "ponytail twintails braid braids bangs blunt-bangs sidelocks ahoge bob-cut pixie-cut hime-cut "
    "buzz-cut dreadlocks afro updo hair-bun double-bun side-ponytail low-ponytail high-ponytail "
    "heterochromia bald"
).split()
_PEOPLE = (
    "girl boy woman man child baby teenager lady gentleman king queen prince princess knight soldier "
    "warrior archer wizard witch mage priest monk nun nurse doctor teacher student maid butler chef "
    "farmer shepherd fisherman sailor pirate captain pilot astronaut robot cyborg android angel demon "
    "elf fairy mermaid vampire ghost zombie skeleton giant dwarf goblin orc ninja samurai dancer "
    "musician painter artist model portrait crowd couple family friends siblings"
).split()
_POSES = (
    "standing sitting kneeling crouching lying walking running jumping flying swimming dancing "
    "sleeping eating drinking reading writing painting drawing singing playing fighting riding "
    "sailing fishing cooking holding carrying leaning stretching waving pointing hugging kissing "
    "crying laughing smiling frowning blushing winking staring looking-at-viewer looking-away "
    "looking-back looking-up looking-down looking-to-the-side facing-viewer from-above from-below "
    "from-behind from-side arms-up arms-behind-back crossed-arms hand-on-hip hands-in-pockets "
    "crossed-legs open-mouth closed-mouth closed-eyes parted-lips expressionless smile grin smirk "
    "solo 1girl 1boy 2girls 2boys 3girls multiple-girls multiple-boys no-humans male-focus "
    "upper-body full-body cowboy-shot close-up portrait profile wide-shot dutch-angle pov"
).split()
_FOOD = (
    "bread cheese butter egg milk honey wine beer tea coffee juice water soup stew pasta pizza rice "
    "noodles ramen sushi sandwich burger salad cake pie cookie chocolate candy ice-cream pancake "
    "apple pear peach plum cherry grape grapes lemon lime orange banana strawberry raspberry "
    "blueberry melon watermelon fig pomegranate tomato potato carrot onion garlic pepper pumpkin "
    "cabbage lettuce bean peas olive basil rosemary thyme nut almond"
).split()
_OBJECTS = (
    "table chair stool bench sofa couch bed pillow blanket curtain carpet rug mirror clock lamp "
    "candle chandelier vase pot bowl cup mug plate bottle jar basket barrel crate box chest bucket "
    "broom ladder rope chain key lock book scroll letter map newspaper pen pencil brush easel canvas "
    "camera phone computer keyboard television radio guitar piano violin cello flute trumpet drum "
    "harp bell ball toy doll teddy-bear kite balloon flag banner sign car truck bus van taxi tram "
    "train bicycle motorcycle scooter cart wagon carriage boat sailboat rowboat ship canoe ferry "
    "yacht submarine airplane helicopter airship rocket sword shield spear bow arrow axe dagger gun "
    "staff wand potion crystal gem jewel coin treasure skull bone feather shell anchor wheel gear "
    "machine pipe tank tractor plough haystack scarecrow windchime weathervane birdcage "
    "wheelbarrow fountain-pen hourglass telescope compass globe"
).split()
_ADJECTIVES = (
    "old ancient new big small tiny huge tall long round square broken ruined abandoned empty crowded "
    "quiet lonely cozy beautiful pretty cute elegant simple ornate detailed intricate colorful "
    "vibrant muted faded soft hard warm cold wet dry dirty clean shiny transparent blurry sharp "
    "distant floating hanging open closed wild lush barren winding narrow wide steep deep shallow "
    "calm rough frozen burning magical enchanted haunted sacred royal traditional vintage retro "
    "antique whimsical dreamy moody dramatic peaceful serene majestic mullioned arched vaulted "
    "cobbled climbing potted fallen overgrown sunlit moonlit snowy rainy misty dusty striped "
    "checkered plaid floral spotted frilled embroidered patterned"
).split()
_ART = (
    "illustration painting drawing sketch etching engraving woodcut linocut lithograph watercolor "
    "gouache oil-painting acrylic ink charcoal pencil crayon pastel chalk fresco mosaic stained-glass "
    "collage papercut origami embroidery tapestry comic manga anime cartoon chibi pixel-art voxel "
    "low-poly vector lineart line-art cel-shading flat-color monochrome greyscale sepia duotone "
    "limited-palette halftone screentone hatching crosshatching stippling impasto brushstrokes "
    "texture paper-texture canvas-texture concept-art poster postcard stamp book-cover storybook "
    "children's-book fairy-tale fantasy science-fiction steampunk cyberpunk surreal abstract "
    "minimalist impressionism expressionism cubism art-nouveau art-deco pop-art ukiyo-e photorealistic "
    "realistic photograph photo 3d-render claymation isometric silhouette border frame white-border "
    "white-background simple-background grey-background transparent-background gradient-background "
    "scenery landscape seascape still-life nature architecture indoors outdoors background foreground"
).split()
_CAMERA = (
    "bokeh depth-of-field shallow-focus sharp-focus soft-focus motion-blur long-exposure macro "
    "wide-angle fisheye telephoto panorama aerial-view bird's-eye-view eye-level low-angle high-angle "
    "tilt-shift film-grain polaroid 35mm-film analog-film black-and-white high-contrast low-contrast "
    "high-key low-key overexposed underexposed vignette symmetry composition rule-of-thirds "
    "perspective centered negative-space masterpiece best-quality high-quality good-quality "
    "low-quality worst-quality highres absurdres lowres ultra-detailed highly-detailed 4k 8k hdr "
    "watermark signature text blurry jpeg-artifacts cropped"
).split()
_MORE = (
    "a an the of in on at with by for from and or to as is without under over behind beside between "
    "near above below around through into style medium view scene quality trigger very many few some "
    "several cobblestone flagstone limestone sandstone terrace-farm hillside hilltop roadside "
    "riverside seaside lakeside waterfront rooftop rooftops treetop doorstep windowsill fireplace "
    "bookshelf staircase corridor hallway kitchen bedroom bathroom living-room dining-room attic "
    "cellar office classroom studio workshop laboratory hospital prison dungeon throne-room altar "
    "pew organ stained window-frame window-box flowerpot flowerbed clothesline laundry fountainhead "
    "farm farmland countryman agriculture rolling distance haystacks olive-grove cypress-trees "
    "terracotta-roof red-tile sun-drenched sun-bleached weather-beaten hand-drawn hand-painted "
    "old-fashioned black-and-red afternoon-light soft-light warm-light cold-light natural-light rim "
    "contour outline outlines shading shade shades tone tones tint hue hues palette saturated "
    "desaturated monochromatic earthy sienna umber mustard saffron apricot coral salmon magenta fuchsia "
    "cyan indigo-blue sky-blue navy-blue emerald jade mint khaki tan taupe charcoal pearl rose-gold "
    "chocolate caramel wine-red burgundy plum-purple mauve periwinkle cobalt cerulean azure sapphire "
    "ruby amethyst topaz north south east west left right top bottom center corner middle upper lower "
    "first second third one two three four five six seven eight nine ten hundred thousand half "
    "double triple single multiple group pair row stack pile heap bunch bundle swarm flock herd "
    "movie film game character original series cover logo icon emblem shape circle triangle square "
    "line curve spiral grid dot dots pattern ornament decoration detail details element design layout "
    "january february march april may june july august september october november december monday "
    "sunday morning-glory weather climate temperature season year century era age history legend "
    "story tale dream memory mystery adventure journey travel holiday vacation picnic wedding party "
    "parade concert dance ballet opera theater circus carnival sport football tennis golf hockey "
    "skating skiing surfing climbing hiking camping cycling gardening harvesting pruning baking"
).split()
_GROUPS = (_BUILDINGS, _NATURE, _LIGHT, _SEASONS, _PLACES, _ANIMALS, _CLOTHES, _BODY, _HAIR_WORDS)
_MORE_GROUPS = (_PEOPLE, _POSES, _FOOD, _OBJECTS, _ADJECTIVES, _ART, _CAMERA, _COLOUR_WORDS)
_COMMON_COLOURS = _COLOUR_WORDS[:12]
_OWN_WORDS = (*THINGS, *COLOURS, *GROUNDS, *TIMES, *WEATHERS, *STYLES)
_OWN_PHRASES = ("photo of a", "picture of an", "in the style of", "at the", "with the", "by the")


def _plural(word: str) -> str:
    if word.endswith(("s", "sh", "ch", "x")):
        return word if word.endswith("s") and not word.endswith("ss") else word + "es"
    if word.endswith("y") and word[-2] not in "aeo":
        return word[:-1] + "ies"
    return word + "s"


def _pairs(first: list[str], second: list[str], keep_one_in: int) -> list[str]:
    """A regular selection of all pairs: every word appears, and the list stays short."""
    every = [f"{a} {b}" for a, b in product(first, second)]
    return every[::keep_one_in]


@cache
def ordinary_tags() -> tuple[str, ...]:
    """Between 4 000 and 8 000 distinct tags, hyphens written as spaces, in a fixed order."""
    tags = [*_OWN_WORDS, *_OWN_PHRASES]
    for group in (*_GROUPS, *_MORE_GROUPS, _MATERIALS, _HAIR):
        tags += group
    tags += _MORE
    for group in (_BUILDINGS, _NATURE, _ANIMALS, _CLOTHES, _PEOPLE, _FOOD, _OBJECTS, _BODY):
        tags += [_plural(word) for word in group]
    tags += _pairs(_COMMON_COLOURS, _CLOTHES, 2)
    tags += _pairs(_COMMON_COLOURS, _BODY, 1)
    tags += _pairs(_HAIR, ["hair"], 1)
    tags += _pairs(_MATERIALS, _BUILDINGS, 6)
    tags += _pairs(_MATERIALS, _OBJECTS, 7)
    tags += _pairs(_ADJECTIVES, _BUILDINGS, 21)
    tags += _pairs(_ADJECTIVES, _NATURE, 23)
    tags += _pairs(_PLACES, _BUILDINGS, 11)
    tags += _pairs(_COLOUR_WORDS, _ANIMALS, 7)
    tags += _pairs(_COLOUR_WORDS, _NATURE, 11)
    tags += _pairs(_SEASONS, _NATURE, 5)
    tags += _pairs(_POSES[:38], _PEOPLE, 11)
    return tuple(dict.fromkeys(tag.replace("-", " ") for tag in tags))


def filler_tags() -> tuple[str, ...]:
    """Ordinary tags without a word that scenes are captioned with: noise for captions."""
    own = {word for phrase in (*_OWN_WORDS, *_OWN_PHRASES) for word in phrase.split()}
    own |= {"hill", "mountain", "fields", "field", "snowy", "rainy", "red", "sunlit", "moonlit"}
    return tuple(tag for tag in ordinary_tags() if own.isdisjoint(tag.split()))

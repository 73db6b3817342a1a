"""Writes short, simple stories from a grammar of its own: this file and themes.txt, nothing else.

    python stories.py --count 10                 # look at ten stories
    python stories.py --count 10 --held-out      # ten that training never sees

A story picks a hero, a place, the weather and a theme (wish, obstacle, helper) once, and every sentence is
filled from that choice: the name, the pronoun, the wish and the helper stay the same to the end.

Template language: [a|b] picks one, {x} fills a slot, {X} the same with a capital. Slots of a story:
  N hero   he him his     hero's pronouns   voc   how others address the hero
  H helper hhe hhis aH    "an old owl" on first mention
  o thing  O with adjective   ao "a red kite"   g "swimming"   wish / say  in the hero's own words
  r "his sister"  rhe rhim    P "the village"   inP "in a quiet village"   atP "in the village"
"""

import argparse
import random
import re
import zlib
from pathlib import Path

EOT = "<|endoftext|>"

GIRLS = """
Anna Mia Lily Emma Rosa Clara Nora Ella Ida Lena Sara Maya Zoe Ruby Molly Lucy Alice Daisy Grace Hanna Ivy
June Kate Lola Mina Nina Olga Paula Tina Vera Wanda Yuki Amina Bella Carmen Dora Elsa Fiona Greta Heidi Iris Jane Kira
Lara Marta Nadia Olivia Petra Rita Sofia Tara Uma Violet Willa Zara Leila Priya Mei Aiko Fatima Ines
Stella Holly""".split()
BOYS = """Tom Ben Max Leo Sam Finn Jack Oscar Paul Noah Emil Hugo Theo Luca Adam Alex Otto Felix Karl Milo Nico Peter
Simon Toby Victor Will Yusuf Zack Anton Bruno Carlos David Eli Frank George Henry Ivan Jonas Kofi Liam Marco Nils Omar
Pablo Ravi Stefan Tim Umar Walter Kenji Ali Diego Ethan Fred Gus Harry Isaac Jamal Kai Luis Mateo Ned""".split()
PETS = """Pip Dot Fuzzy Bramble Hazel Nibbles Pepper Poppy Sunny Tuck Twig Moss Pebble Biscuit Button Clover Domino Fern
Ginger Honey Jasper Kiwi Lemon Maple Nutmeg Olive Peanut Quill Rusty Scout Tansy Waffles Ziggy Acorn Bean Cinnamon
Dusty Echo Flip Goldie Hopper Inky Juniper Lucky Muffin Noodle Patch Rocket Shadow Thistle Velvet Whiskers Bubbles Coco
Dash Ember Flora Misty Oats Plum Raisin Snowy Tiger Bumble Cocoa Frost Mango""".split()

ANIMALS = """fox rabbit mouse bear owl squirrel hedgehog deer badger frog turtle duck cat dog goat sheep pig cow horse
donkey hen rooster goose otter beaver raccoon mole wolf lion elephant monkey giraffe panda penguin seal crab sparrow
robin crow parrot swan bee ant butterfly snail beetle lizard koala tiger camel kangaroo zebra""".split()
GROWN = """baker farmer sailor gardener fisherman miller tailor carpenter shepherd painter teacher doctor king queen
knight wizard witch giant clockmaker librarian shopkeeper blacksmith""".split()
MAGIC = ["dragon", "robot", "elf", "fairy", "gnome", "unicorn", "ghost", "snowman", "troll"]
HE_ONLY = {"king", "knight", "wizard", "rooster", "fisherman", "snowman", "shepherd", "troll"}
SHE_ONLY = {"queen", "witch", "hen", "cow", "fairy"}
ADJ = {
    "child": "little small kind curious brave shy clever cheerful quiet young happy lively gentle".split(),
    "animal": "little small brave curious shy young clever lazy cheerful gentle tiny old hungry friendly funny".split(),
    "grown": "old young kind poor clever friendly lonely cheerful wise quiet tired".split(),
    "magic": "little friendly shy young lonely kind funny curious gentle small".split(),
}

# key: (first mention, later mention, later with preposition, small sights)
PLACES = {
    "village": (
        "in a [quiet|small|sleepy|pretty] village",
        "the village",
        "in the village",
        (
            "Smoke rose from the chimneys.|The church bell was ringing.|Hens walked across the street.|"
            "The houses had red roofs and green doors."
        ),
    ),
    "forest": (
        "in a [deep|green|dark|big|quiet] forest",
        "the forest",
        "in the forest",
        (
            "The tall trees whispered in the wind.|The ground was soft with moss.|"
            "Birds were singing in every tree.|Mushrooms grew along the path."
        ),
    ),
    "farm": (
        "on a [small|sunny|busy|big] farm",
        "the farm",
        "on the farm",
        (
            "The hay smelled sweet.|The rooster sat on the gate.|Cows stood under the old oak.|"
            "Behind the barn there was a green field."
        ),
    ),
    "sea": (
        "in a [little|white|small] house by the sea",
        "the beach",
        "by the sea",
        (
            "The waves rolled over the sand.|Gulls cried above the water.|The air smelled of salt.|"
            "White sails passed by."
        ),
    ),
    "mountain": (
        "on a [high|steep|snowy|green] mountain",
        "the mountain",
        "on the mountain",
        (
            "The air was cool and clear.|A stream ran down between the rocks.|Far below lay the valley.|"
            "An eagle circled above the rocks."
        ),
    ),
    "town": (
        "in a [busy|big|noisy|lively] town",
        "the town",
        "in the town",
        (
            "The streets were full of people.|A bus rumbled by.|The market was full of fruit and flowers.|"
            "The clock on the tower struck nine."
        ),
    ),
    "garden": (
        "in a [large|wild|hidden|lovely] garden",
        "the garden",
        "in the garden",
        (
            "Bees hummed from flower to flower.|The roses smelled sweet.|There was a bench under the pear tree.|"
            "Dew shone on the grass."
        ),
    ),
    "river": (
        "[near|beside] a [wide|slow|clear|winding] river",
        "the valley",
        "by the river",
        (
            "The water sparkled.|Reeds moved in the wind.|Little fish jumped in the water.|"
            "A wooden bridge led to the other side."
        ),
    ),
    "castle": (
        "in [an old|a tall|a gray|a huge] castle",
        "the castle",
        "in the castle",
        (
            "Flags waved on the towers.|The halls were long and cool.|A wide stair led to the gate.|"
            "There were a hundred windows."
        ),
    ),
    "island": (
        "on a [small|lonely|green|sunny] island",
        "the island",
        "on the island",
        (
            "Palm trees moved in the wind.|The sand was warm and white.|There was water on every side.|"
            "Colorful shells lay on the shore."
        ),
    ),
    "meadow": (
        "[near|beside] a [wide|green|sunny] meadow",
        "the meadow",
        "in the meadow",
        (
            "The grass was full of flowers.|Butterflies danced in the air.|Crickets were singing.|"
            "A small brook ran past."
        ),
    ),
    "lake": (
        "[near|beside] a [blue|calm|deep|clear] lake",
        "the lake",
        "by the lake",
        (
            "The water was as smooth as glass.|Ducks swam between the lilies.|A little boat lay at the shore.|"
            "The hills were mirrored in the water."
        ),
    ),
    "city": (
        "in a [great|bright|crowded] city",
        "the city",
        "in the city",
        (
            "The houses were as tall as mountains.|Trams rattled through the streets.|"
            "In the park, children were playing.|Lamps stood on every corner."
        ),
    ),
    "hill": (
        "on a [round|grassy|windy|gentle] hill",
        "the hill",
        "on the hill",
        (
            "You could see far across the land.|The grass bent in the wind.|A lonely tree stood at the top.|"
            "Sheep walked slowly over the slope."
        ),
    ),
}
# weather adjective: (a sentence of its own, noun for "all that ...")
WEATHER = {
    "sunny": "The sun was shining.|There was not a cloud in the sky.|The sun was warm and golden.",
    "rainy": "It was raining.|Rain was falling on the roofs.|Big drops fell from the gray sky.",
    "windy": "A strong wind was blowing.|The wind was shaking the trees.|The leaves were dancing in the wind.",
    "snowy": "Snow was falling.|Everything was white with snow.|Soft snow covered the ground.",
    "foggy": "Fog lay over the land.|Everything was gray and quiet in the fog.",
    "cloudy": "Gray clouds covered the sky.|Clouds were moving slowly across the sky.",
    "warm": "The air was warm and soft.|It was warm, and everything smelled of summer.",
    "cold": "It was very cold.|The air was cold and clear.",
    "bright": "The sky was bright and blue.|Everything was bright and clear.",
    "cool": "A cool breeze was blowing.|The air was fresh and cool.",
    "stormy": "Thunder rumbled far away.|Dark clouds raced across the sky.",
    "frosty": "There was ice on the windows.|The grass was white with frost.",
    "icy": "There was ice on every puddle.|Long icicles hung from the roof.",
}
WET = {"rainy", "stormy", "foggy", "snowy", "icy", "frosty", "cold"}

# talent: helpers that have it, "noun: adjectives"; a leading * marks the hero's own family ("his grandmother")
HELPERS = {
    "high": (
        "sparrow: little, quick|crow: clever, black|squirrel: quick, red|monkey: playful, clever|owl: old, wise|"
        "eagle: great, proud|seagull: friendly, white|raven: clever, black|firefighter: tall, friendly|"
        "cat: gray, clever"
    ),
    "strong": (
        "bear: big, gentle|horse: strong, brown|elephant: big, kind|blacksmith: strong, friendly|"
        "ox: strong, patient|moose: huge, calm|giant: gentle, friendly|farmer: strong, old|gorilla: big, gentle|"
        "*father|*uncle|*big brother|donkey: gray, stubborn"
    ),
    "wise": (
        "owl: wise, old|turtle: old, slow|wizard: wise, old|librarian: kind, old|raven: old, clever|"
        "toad: wise, fat|goat: old, bearded|sailor: old, friendly|*grandmother|*grandfather|*mother|*aunt|"
        "stork: tall, wise|teacher: kind, young|shepherd: old, quiet"
    ),
    "cook": (
        "baker: kind, round|cook: cheerful, round|innkeeper: jolly, friendly|*grandmother|*mother|*aunt|"
        "raccoon: clever, plump|badger: kind, old|farmer: kind, friendly|hen: motherly, brown|witch: friendly, old"
    ),
    "small": (
        "mouse: tiny, gray|ant: tiny, brave|beetle: tiny, shiny|lizard: quick, green|hedgehog: little, careful|"
        "shrew: tiny, lively|wren: tiny, brown|gnome: tiny, cheerful|ladybug: tiny, red|elf: tiny, clever"
    ),
    "water": (
        "duck: friendly, white|otter: playful, quick|turtle: big, green|frog: green, lively|swan: white, graceful|"
        "beaver: brown, busy|fisherman: old, kind|boatman: quiet, old|goose: gray, brave|sailor: young, brave"
    ),
    "rescue": (
        "firefighter: tall, brave|chimney sweep: young, cheerful|giant: friendly, gentle|painter: friendly, tall|"
        "roofer: careful, friendly|monkey: clever, gentle|stork: tall, gentle"
    ),
    "ferry": (
        "boatman: quiet, old|fisherman: old, kind|sailor: young, brave|turtle: huge, old|swan: large, white|"
        "beaver: strong, brown|moose: tall, calm|hippo: big, kind|*uncle|*father"
    ),
    "carry": (
        "eagle: great, proud|giant: friendly, gentle|stork: tall, white|dragon: friendly, green|"
        "crane: gray, graceful|swan: large, white|wild goose: strong, gray"
    ),
    "dig": (
        "mole: black, busy|badger: striped, strong|dog: brown, happy|rabbit: white, quick|gopher: busy, little|"
        "gardener: old, friendly|miner: dusty, cheerful|groundhog: plump, friendly"
    ),
    "craft": (
        "carpenter: old, skillful|beaver: busy, clever|tailor: clever, little|blacksmith: friendly, strong|"
        "clockmaker: old, careful|spider: clever, patient|shoemaker: kind, old|inventor: funny, clever|"
        "*grandfather|*uncle|*big sister|weaverbird: skillful, little"
    ),
    "light": (
        "firefly: tiny, bright|lantern maker: old, kind|night watchman: old, friendly|little star: bright, silver|"
        "glowworm: tiny, green|lighthouse keeper: old, quiet|fairy: tiny, shining|miner: brave, cheerful|*father|"
        "*grandmother"
    ),
    "kind": (
        "rabbit: friendly, white|girl: friendly, cheerful|boy: friendly, cheerful|puppy: friendly, brown|"
        "fox: red, friendly|mouse: kind, little|postman: cheerful, friendly|*sister|*brother|*cousin|"
        "neighbor: kind, old|hedgehog: kind, prickly|deer: gentle, shy|bear: kind, big|goose: kind, talkative|"
        "robin: cheerful, little|gardener: kind, old|pony: gentle, white"
    ),
    "music": (
        "cricket: merry, green|fiddler: old, merry|nightingale: little, gray|piper: merry, young|"
        "frog: big, cheerful|robin: cheerful, little|*uncle|*big sister|accordion player: jolly, old|"
        "blackbird: merry, black"
    ),
    "hungry": (
        "puppy: thin, small|bird: little, cold|mouse: thin, tiny|old man: tired, poor|old woman: tired, poor|"
        "kitten: thin, small|hedgehog: tired, small|boy: thin, shy|girl: thin, shy|squirrel: thin, little"
    ),
}
FAMILY_SHE = {"grandmother", "mother", "aunt", "sister", "big sister"}
MALE = {"fisherman", "old man", "boy", "father", "uncle", "big brother", "grandfather", "brother", "wizard", "postman",
        "boatman", "night watchman", "shepherd", "ox"}
FEMALE = {"old woman", "girl", "witch", "hen", "fairy"} | FAMILY_SHE
RECIPIENTS = [
    "mother", "father", "sister", "brother", "grandmother", "grandfather",
    "best friend", "aunt", "uncle", "neighbor",
]
DREAMS = [
    "flying over the sea",
    "a field of golden flowers",
    "a ship made of clouds",
    "dancing stars",
    "a mountain of pancakes",
    "a friendly whale",
    "a train to the moon",
    "soft white snow",
    "a garden full of music",
]

# Openings: the hero's name, or its absence, is settled here. `wish` ones leave out the wish sentence, `weather`
# ones have told the weather, `place` ones the place.
OPEN = [
    "Once upon a time there was {a_hero} named {F}.",
    "Once upon a time there was {a_hero} called {F}.",
    "Once upon a time, {inP}, there lived {a_hero} named {F}.",
    "Once there was {a_hero} who lived {inP}. {His} name was {F}.",
    "Long ago, {a_hero} named {F} lived {inP}.",
    "{Inp} lived {a_hero} named {F}.",
    "{Inp} there lived {a_hero} called {F}.",
    "There once was {a_hero} whose name was {F}.",
    "{F} was {a_hero} who lived {inP}.",
    "{F} was {a_hero}.",
    "{F_kind} lived {inP}.",
    "This is the story of {F}, {a_hero} who lived {inP}.",
    "This is a story about {a_hero} named {F}.",
    "A long time ago, {inP}, there was {a_hero} called {F}.",
    "Not so long ago, {a_hero} named {F} lived {inP}.",
    "Have you ever heard of {F}? {F} was {a_hero} who lived {inP}.",
    "Far, far away, {inP}, lived {a_hero} named {F}.",
    "Everyone {atP} knew {F}, {a_hero} with a big heart.",
    "Nobody {atP} laughed as much as {F}, {a_hero}.",
    "There was {a_hero} {inP}, and {his} name was {F}.",
    "Every [morning|evening], {a_hero} named {F} went for a walk {atP}.",
]
OPEN_WEATHER = [
    (
        "One {w} {day}, {a_hero} named {F} [woke up early|sat by the window|went for a walk|looked out of the door|"
        "was all alone at home]."
    ),
    "One {w} {day}, {F_kind} [woke up early|sat by the window|went for a walk|looked out of the door].",
    (
        "It was {a_w} {day} {atP}. {F}, {a_hero}, [looked out of the window|could not sit still|was already awake|"
        "had nothing to do]."
    ),
    (
        "It was {a_w} {day}, and {a_hero} named {F} [looked out of the window|could not sit still|"
        "stood in front of the house]."
    ),
    "{weather} {F}, {a_hero}, [looked out of the window|stood in front of the house|was on {his} way home].",
    "On {a_w} {day}, {a_hero} named {F} [came out of the house|walked slowly along the road|sat down under a tree].",
    '"What {a_w} {day}!" said {F}, {a_hero} who lived {inP}.',
]
OPEN_WISH = [
    "One {w} {day}, {F} wanted {wish}.",
    "One {w} {day}, {F_kind} wanted {wish}.",
    "One {w} {day}, {a_hero} named {F} wanted {wish}.",
    "One {day}, {a_hero} named {F} decided {wish}.",
    "{F} wanted {wish}.",
    "{F_kind} wanted {wish}.",
    "{F} was {a_hero} who wanted {wish}.",
    "{F} had only one wish: {wish}.",
    '"I want {say}," said {F}, {a_hero} who lived {inP}.',
    '"Today I want {say}," said {F} one {w} {day}.',
    "Once upon a time, {a_hero} named {F} wanted {wish}.",
    "{Inp} lived {a_hero} named {F}, who wanted {wish}.",
    "More than anything in the world, {F_kind} wanted {wish}.",
    "It was {a_w} {day} {atP}, and {F} wanted {wish}.",
    "All {week} long, {F_kind} had thought about one thing. {He} wanted {wish}.",
    "There once was {a_hero} named {F} who wanted {wish}.",
]
OPEN_NAMELESS = [
    "{Inp} lived {a_hero}.",
    "Once upon a time there was {a_hero} who lived {inP}.",
    "Once upon a time, {a_hero} lived {inP}.",
    "There once was {a_hero} {inP}.",
    "Long ago, {inP}, there lived {a_hero}.",
    "Far away, {inP}, there was {a_hero}.",
    "One {w} {day}, {a_hero} sat {atP}.",
    "It was {a_w} {day}, and {a_hero} was sitting {atP}.",
]
OPEN_NAMELESS_WISH = [
    "One {w} {day}, {a_hero} wanted {wish}.",
    "Once upon a time there was {a_hero} who wanted {wish}.",
    "{Inp} lived {a_hero} who wanted {wish}.",
    "There once was {a_hero} who wanted {wish}.",
]
TRAIT = {
    "any": [
        "{He} was always in a good mood.",
        "{He} loved to [sing|laugh|tell jokes|hum little songs].",
        "{He} had a [warm|big|good] heart.",
        "{He} liked [the smell of rain|long walks|warm soup|old songs|sunny days].",
        "{He} was not very big, but {he} was [full of ideas|never afraid to ask|very brave].",
        "{He} asked a hundred questions every day.",
        "{He} always wore a [red scarf|blue hat|green coat|funny hat].",
        "{He} was kind to everyone {he} met.",
        "{He} lived alone, but {he} was never bored.",
        "{He} got up early every day.",
        "Everybody liked {him}.",
        "{He} often looked out of the window and dreamed.",
    ],
    "child": [
        "{He} lived with {his} [mother|father|grandmother|grandfather|big family].",
        "{He} had [freckles|curly hair|bright eyes] and a big smile.",
        "{He} was [five|six|seven|eight|nine] years old.",
        "{He} could never sit still for long.",
    ],
    "animal": [
        "{He} had [soft ears|bright eyes|a funny nose|quick little feet].",
        "{He} lived in a [cozy|tidy|warm] little house under a [big tree|hill|rosebush].",
        "{He} was smaller than the others.",
    ],
    "grown": [
        "{He} worked hard every day.",
        "{He} had a [small|cozy] house with a [blue|yellow|green] door.",
        "{He} had seen many things in {his} life.",
    ],
    "magic": [
        "{He} was a little different from the others.",
        "Nobody was afraid of {him}.",
        "{He} was a hundred years old, and that is very young for {a_kind}.",
    ],
}
WISH = [
    "One {day}, {N} wanted {wish}.",
    "{N} wanted {wish}.",
    "More than anything, {N} wanted {wish}.",
    "{His} greatest wish was {wish}.",
    "One {day}, {he} had an idea. {He} wanted {wish}.",
    '"I want {say}," said {N}.',
    '"Today I want {say}," said {N} one {day}.',
    'One {day}, {N} said, "I would love {say}."',
    "{N} had only one wish: {wish}.",
    "One {day}, {N} made up {his} mind {wish}.",
    "There was one thing that {N} really wanted. {He} wanted {wish}.",
    "{N} had always wanted {wish}.",
    "One {w} {day}, {N} decided {wish}.",
    '"How I would like {say}!" {N} thought.',
    "{He} dreamed of one thing only: {wish}.",
    "And so, one {w} {day}, {N} set out {wish}.",
]
START = [
    "So {N} [got to work|began|set to work|started] right away.",
    "{He} [was very excited|could hardly wait|was full of hope].",
    "So {he} [got up early|put on {his} boots|put on {his} hat] and began.",
    "{N} hummed a little song and began.",
    '"Today is the day," {he} said to {himself}.',
    '"This is going to be fun!" said {N}.',
]
SAD = [
    "{N} was [sad|worried|upset|disappointed|very unhappy].",
    '"Oh no!" cried {N}.',
    '"Oh dear," said {N}. "What shall I do now?"',
    "{N} felt like crying.",
    "{N}'s heart sank.",
    '"That is not fair!" said {N}.',
    "{N} sighed and sat down.",
    "A big tear rolled down {his} cheek.",
    "{N} did not know what to do.",
    '"There must be a way," said {N}.',
    '"I will not give up," said {N}.',
    "{N} frowned and thought hard.",
    '"This is harder than I thought," said {N}.',
]
TIRED = [
    "{N} sat down and [sighed|put {his} head in {his} hands|almost gave up].",
    "{N} was close to tears.",
    '"I will never do it," said {N}.',
    '"It is no use," {he} said quietly.',
    "Now {N} was really sad.",
    "{He} was tired, and {he} wanted to go home.",
    '"I need help," said {N} at last.',
    "{N} [looked down at {his} feet|looked up at the sky] and wondered what to do.",
]
MEET = [
    "Just then, {aH} came [by|along|down the path|around the corner].",
    "{AH} had seen everything.",
    "{AH} heard {him} and came closer.",
    "At that moment, {aH} [came by|looked over the fence|stopped and looked].",
    "After a while, {aH} came by.",
    "Then {N} met {aH}.",
    "Then {N} had an idea and went to ask {aH}.",
    "Luckily, {aH} was nearby.",
    "Then {aH} sat down beside {him}.",
    "So {N} went to {aH} for help.",
    "But {aH} was watching and wanted to help.",
]
MEET_FAMILY = [
    "Just then, {aH} came in.",
    "Then {aH} came home.",
    "{AH} saw {his} sad face.",
    "So {N} went to {aH} and told {hhim} everything.",
    "{AH} had seen everything.",
    "Then {N} asked {aH} for help.",
    "At that moment, {aH} opened the door.",
]
ASK = [
    (
        '"What is wrong, {voc}?" asked {H}. [{N} told {hhim} everything.|"All I want is {say}," said {N}.|'
        '"I need help," said {N}.]'
    ),
    (
        '"Why are you so sad[|, {voc}]?" asked {H}. [{N} told {hhim} everything.|"I only want {say}," said {N}.|'
        "{N} pointed and explained.]"
    ),
    '"Can I help you?" asked {H}. ["Yes, please," said {N}.|{N} nodded.|"Oh yes!" said {N}.]',
    '"Do not worry, {voc}," said {H}. "I know what to do."',
    "{N} told {H} the whole story.",
    '"Please, can you help me?" asked {N}. "[Of course|I will try|Yes, I can|With pleasure]," said {H}.',
    '"Cheer up, {voc}," said {H}. "We will do it together."',
    '"I can help you," said {H} with a smile.',
    '"Let me see," said {H}.',
    '"May I help?" {H} asked politely. {N} nodded.',
    '"I have tried everything," said {N}. {H} [nodded slowly|listened carefully|thought for a moment].',
    '"What happened?" asked {H}, and {N} explained.',
    '"Do not cry, {voc}," said {H}.',
]
THANKS = [
    '"Thank you, {hvoc}!" said {N}.',
    '"Thank you so much!" cried {N}.',
    '"You are a true friend," said {N}.',
    "{N} thanked {H} with all {his} heart.",
    '"I could not have done it without you," said {N}.',
    "{N} hugged {H}.",
    '"How can I ever thank you?" asked {N}. "Just be happy," said {H}.',
    "{N} [laughed|clapped|jumped] with joy.",
    '"Hooray!" shouted {N}.',
    "{N} was so happy that {he} danced in a circle.",
]
MORAL = [
    (
        "And {N} learned that [two can do more than one|it is good to ask for help|you should never give up|"
        "a good friend is the best thing of all|patience is worth more than gold]."
    ),
    "And from that day on, {N} and {H} were [good|best|the best of] friends.",
    "It had been a wonderful day.",
    "It was the happiest day of {his} life.",
    "And they all lived happily ever after.",
    "And {N} knew that {he} would never forget this day.",
    '"Sometimes all you need is a little help," said {N}.',
    "And if nobody has told {him} to stop, {N} is still smiling today.",
    "And that is how {N} made {his} wish come true.",
    "That night {N} fell asleep with a smile.",
    "The end.",
]

DAYS = {
    None: ["morning", "day", "afternoon", "morning", "day"],
    "evening": ["evening", "night"],
    "night": ["night", "evening"],
}
OWN_START = ("friend", "pet", "lost", "winter", "baby", "gift", "moon", "race", "show")  # START is too cheerful there


def load_themes():
    """themes.txt as dictionaries: a list for each key that may come more than once, a string for the limits."""
    themes = []
    for line in (Path(__file__).parent / "themes.txt").read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, _, value = line.partition(" " if line.startswith(("theme ", "ob ")) else ": ")
        if key == "theme":
            theme = {"name": value, "obs": [], **{k: [] for k in ("wish", "obj", "verb", "why", "go", "say", "end")}}
            themes.append(theme)
        elif key == "ob":
            talent, _, weather = value.partition(" ")
            theme["obs"].append({"talent": talent, "weather": split(weather), "p": [], "t": [], "f": [], "r": []})
        else:
            into = theme["obs"][-1] if key in ("p", "t", "f", "r", "not") else theme
            if isinstance(into.get(key), list):
                into[key].append(value)
            else:
                into[key] = value
    return themes


def split(text):
    return [x.strip() for x in text.split(",") if x.strip()]


THEMES = load_themes()


def article(noun):
    return ("an " if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "one")) else "a ") + noun


def held_out(kind, thing, place):
    """One in twenty (hero, thing, place) combinations never appears in training."""
    return zlib.crc32(f"{kind}/{thing}/{place}".encode()) % 20 == 0


INVENTED = 0.12  # the share of heroes with an invented name


class Story:
    def __init__(self, rng, invented=INVENTED):
        self.rng, self.invented = rng, invented
        self.slots = {}

    def fill(self, template):
        while "[" in template:
            template = re.sub(r"\[([^\[\]]*)\]", lambda m: self.rng.choice(m[1].split("|")), template)
        while "{" in template:
            template = re.sub(r"\{(\w+)\}", self.slot, template)
        return template

    def slot(self, m):
        key = m[1]
        if key == "day":
            return self.rng.choice(self.days)
        if key in self.slots:
            return self.slots[key]
        value = self.slots[key[0].lower() + key[1:]]
        return value[0].upper() + value[1:]

    def say(self, templates, lead=""):
        """Adds one of the templates, never the same one twice in a story."""
        template = self.rng.choice([t for t in templates if t not in self.used] or templates)
        self.used.add(template)
        # "{N} ..." after a sentence about the hero alone often becomes "He ..."; and the other way round, "He ..."
        # becomes the name where someone else was mentioned in between.
        if template.startswith("{N} ") and (lead or self.hero_last and self.rng.random() < 0.6):
            template = "{He} " + template[4:]
        elif template.startswith("{He} ") and not (lead or self.hero_last):
            template = "{N} " + template[5:]
        if lead:
            template = lead + template.replace("{He} ", "{he} ", 1)
        others = any(x in template for x in ("{r}", "{H}", "{aH}", "{AH}", "{hhim}"))
        self.hero_last = not others and any(x in template for x in ("{N}", "{He}", "{F}", "{F_kind}", "{a_hero}"))
        self.out.append(self.fill(template))

    def invent(self):
        """A name that nobody has: two syllables; where they are frequent, also longer ones and mixtures of two names."""
        rng, often = self.rng, self.invented > INVENTED
        if often and rng.random() < 0.5:
            a, b = (rng.choice(rng.choice([GIRLS, BOYS, PETS])) for _ in range(2))
            return (a[: rng.randint(1, len(a))] + b[rng.randint(1, len(b) - 1) :].lower()).capitalize()
        onsets = "b d f g k l m n p r s t v w z br fl gr pl tr".split()
        syllables = rng.randint(2, 4) if often else 2
        name = "".join(rng.choice(onsets) + rng.choice("aeiou") for _ in range(syllables))
        return (name + rng.choice(["", "", "n", "l", "x", "ck", "m"])).capitalize()

    def tell(self):
        rng, s = self.rng, self.slots
        chance = lambda p: rng.random() < p
        self.used = set()

        # Who.
        group = rng.choices(["child", "animal", "grown", "magic"], [36, 42, 12, 10])[0]
        theme = rng.choice([t for t in THEMES if group in t.get("who", group)])
        girl = chance(0.5)
        if group == "child":
            kind = "girl" if girl else "boy"
            names = GIRLS if girl else BOYS
        else:
            kind = rng.choice({"animal": ANIMALS, "grown": GROWN, "magic": MAGIC}[group])
            girl = kind in SHE_ONLY or (girl and kind not in HE_ONLY)
            names = PETS if group in ("animal", "magic") and chance(0.7) else GIRLS if girl else BOYS
        name = rng.choice(names)
        if chance(self.invented):  # so that the model learns to copy any name
            name = self.invent()
        adj = rng.choice(ADJ[group])
        nameless = group != "child" and chance(0.15)
        noun = f"{adj} {kind}" if nameless and chance(0.4) else kind
        s.update(F=name, N=f"the {noun}" if nameless else name, kind=kind, a_kind=article(kind))
        s["F_kind"] = name if group == "child" else f"{name} the {kind}"
        s["a_hero"] = article(f"{adj} {kind}" if nameless or chance(0.8) else kind)
        if nameless:
            little = f"little {kind}" if adj != "old" and group != "grown" else "my friend"
            s["voc"] = rng.choice(["my friend", "my dear", little])
        else:
            s["voc"] = rng.choice([name, name, name, "my friend", "my dear"])
        pronouns = ("he", "him", "his", "himself")
        s.update(zip(pronouns, ("she", "her", "her", "herself") if girl else pronouns))

        # Where and when.
        obstacle = rng.choice(theme["obs"])
        weather = rng.choice(obstacle["weather"] or split(theme.get("weather", "")) or list(WEATHER))
        self.days = DAYS[theme.get("time")]
        night = "time" in theme
        if night:
            weather = rng.choice(["warm", "cool", "cold", "windy"])
        winter = weather in ("snowy", "icy", "frosty", "cold")
        place = rng.choice([p for p in PLACES if not (p == "island" and winter)])
        in_p, s["P"], s["atP"], sights = PLACES[place]
        s["inP"] = self.fill(in_p)
        s["inp"], s["w"], s["a_w"] = s["inP"], weather, article(weather)
        s["weather"] = "The sun had gone down." if night else rng.choice(WEATHER[weather].split("|"))
        s["week"] = rng.choice(["week", "month", "winter", "summer"])

        # What.
        unfit = {place, kind, *split(obstacle.get("not", ""))}
        things = theme["obj"] or theme["verb"]
        thing = rng.choice([x for x in things if not unfit & set(re.split("[:/]", x)[0].split())])
        thing, _, extra = thing.partition(":" if theme["obj"] else "/")
        s["o"], s["g"] = thing, extra
        full = f"{rng.choice(split(extra))} {thing}" if extra and chance(0.65) else thing
        s["O"], s["ao"] = full, article(full)
        wish = rng.randrange(len(theme["wish"]))
        s["wish"] = theme["wish"][wish]
        young = group in ("child", "animal")
        r = rng.choice([r for r in RECIPIENTS if young or not r.startswith("grand")])
        r_girl = r in FAMILY_SHE or (r in ("best friend", "neighbor") and chance(0.5))
        s["r"] = "{his} " + r
        s["rhe"], s["rhim"] = ("she", "her") if r_girl else ("he", "him")
        say = theme["say"][min(wish, len(theme["say"]) - 1)] if theme["say"] else s["wish"]
        s["say"] = say.replace("{r}", "my " + r).replace("{his}", "my")
        s["pet"] = rng.choice([n for n in PETS if n != name])
        s["dream"] = rng.choice(DREAMS)

        # Who helps: never the same kind of creature as the hero, never the person the wish is about.
        while True:
            helper, _, adjs = rng.choice(HELPERS[obstacle["talent"]].split("|")).partition(": ")
            family = helper.startswith("*")
            helper = helper.lstrip("*")
            taken = helper.split()[-1] in (kind, thing, r.split()[-1]) or kind in helper
            if not taken and not (family and (nameless or not young)):
                break
        h_girl = helper in FEMALE or (helper not in MALE and chance(0.5))
        s["hhe"], s["hhim"], s["hhis"] = ("she", "her", "her") if h_girl else ("he", "him", "his")
        if family:
            s["H"] = s["aH"] = "{his} " + helper
            sibling = helper.endswith((" sister", " brother")) or helper in ("brother", "sister", "cousin")
            s["hvoc"] = "my dear" if sibling else helper.capitalize()
        else:
            h_adj = rng.choice(adjs.split(", "))
            named = chance(0.35) and " " not in helper
            h_names = PETS if helper in ANIMALS and chance(0.6) else GIRLS if h_girl else BOYS
            h_name = rng.choice([n for n in h_names if n != name])
            s["H"] = h_name if named else f"the {h_adj} {helper}" if chance(0.2) else f"the {helper}"
            s["aH"] = article(f"{h_adj} {helper}") + (f" named {h_name}" if named else "")
            s["hvoc"] = h_name if named else f"dear {helper}"

        self.key = (kind, thing, place)

        # The telling.
        calm = theme["name"] in ("sleep", "honest", "share")
        self.out, self.hero_last = [], False
        opener = rng.choices(["plain", "weather", "wish"], [45, 0 if night or nameless else 20, 35])[0]
        openings = {"plain": OPEN, "weather": OPEN_WEATHER, "wish": OPEN_WISH}[opener]
        if nameless:
            openings = OPEN_NAMELESS_WISH if opener == "wish" else OPEN_NAMELESS
        self.say([t for t in openings if not (night and "Today" in t)])
        placed = any(s[x].lower() in self.out[0].lower() for x in ("inP", "atP"))
        dated = weather in self.out[0] or "One " in self.out[0] or opener == "weather"
        if opener == "plain" and chance(0.55):
            self.say(TRAIT["any"] + TRAIT[group] * 2)
        if opener != "wish":
            if chance(0.3) and placed and not night:
                self.sight(sights, weather)
            self.say([t for t in WISH if not (dated and "ne {" in t) and not (night and ("Today" in t or "{w}" in t))])
        elif chance(0.3) and not night:
            if placed and chance(0.6):
                self.sight(sights, weather)
            elif not dated:
                self.say([s["weather"]])
        if chance(0.7):
            self.say(theme["why"])
        if chance(0.5):
            self.say(theme["go"] if calm or theme["name"] in OWN_START or chance(0.6) else START)
        problem = rng.randrange(len(obstacle["p"]))
        self.say([obstacle["p"][problem]])
        mine = f"{problem + 1}> "
        suits = {k: [x.removeprefix(mine) for x in obstacle[k] if x[1] != ">" or x.startswith(mine)] for k in "tfr"}
        fix = rng.choice(suits["f"])
        if theme["name"] == "share" and s["aH"] not in self.out[-1]:
            self.say(["It was {aH}.", "{AH} was standing there.", "There sat {aH}."])
        if chance(0.5) and not calm:
            self.say(SAD)
        tries = min(rng.choices([0, 1, 2], [12, 63, 25])[0], len(suits["t"]))
        for i, n in enumerate(sorted(rng.sample(range(len(suits["t"])), tries))):
            self.say([suits["t"][n]], rng.choice(["Then ", "After that, ", "Next, "]) if i else "")
        if theme["name"] == "share":
            if chance(0.5):
                self.say(['"[Are you hungry too|Would you like some|Do you want to eat with me]?" asked {N}.'])
        else:
            if tries and chance(0.4) and not calm:
                self.say(TIRED)
            self.say(MEET_FAMILY if family else MEET)
            if chance(0.6) and not calm and theme["name"] != "friend":
                # Not two speeches of the helper in a row.
                self.say([t for t in ASK if not (fix[0] == '"' and "said {H}" in t)])
        self.say([fix])
        self.say(suits["r"])
        if chance(0.4) and not calm:
            self.say(THANKS)
        self.say([t for t in theme["end"] if not (family and "friends" in t)])
        if chance(0.35):
            no = ["friend"] * family + ["wish", "That night", "help"] * (calm or theme["name"] == "race")
            self.say([t for t in MORAL if not any(x in t for x in no)])
        # Slots put "the owl" where a sentence begins; after "!" or "?" and a quote it is not one ('"Oh!" said Tom.').
        text = " ".join(re.sub(r'^("?)([a-z])', lambda m: m[1] + m[2].upper(), x) for x in self.out)
        return re.sub(r'([.!?] "?|\." )([a-z])', lambda m: m[1] + m[2].upper(), text)

    def sight(self, sights, weather):
        fair = r"sun|warm|[Bb]ees|flower|Butterfl|Dew|Cricket|children|sparkled|singing|sweet"
        self.say([x for x in sights.split("|") if not (weather in WET and re.search(fair, x))])


def stories(seed, count, want_held_out=False, invented=INVENTED):
    rng = random.Random(seed)
    while count:
        story = Story(rng, invented)
        text = story.tell()
        if held_out(*story.key) == want_held_out:
            count -= 1
            yield text


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--count", type=int, default=10)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--held-out", action="store_true")
    p.add_argument("--invented", type=float, default=INVENTED)
    a = p.parse_args()
    for text in stories(a.seed, a.count, a.held_out, a.invented):
        print(text, EOT, sep="\n")

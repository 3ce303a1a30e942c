"""Words of the built-in simulated shop: departments, invented brands, product types and what is usually bought next.

One line per product type: ``subcategory | noun | usual price | materials | sizes | features | variants | bought next``. A star behind the
noun marks a consumable (its style words differ: there is no "retro" printer paper). ``-`` under variants means colours, an empty
field means none. All brands are invented.
"""

from dataclasses import dataclass
from functools import lru_cache

STYLES = ("eco", "premium", "value", "compact", "vintage", "modern", "rugged", "playful")

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "eco": ("Eco-Friendly", "Sustainable", "Low-Impact"),
    "premium": ("Premium", "Professional", "Signature"),
    "value": ("Everyday", "Essential", "Basics"),
    "compact": ("Compact", "Space-Saving", "Slim"),
    "vintage": ("Vintage-Style", "Heritage", "Retro"),
    "modern": ("Minimalist", "Modern", "Sleek"),
    "rugged": ("Heavy-Duty", "Extra-Strong", "Hard-Wearing"),
    "playful": ("Colourful", "Cheerful", "Bright-Patterned"),
}

CONSUMABLE_WORDS: dict[str, tuple[str, ...]] = {
    "eco": ("Eco-Friendly", "Sustainable", "Natural"),
    "premium": ("Premium", "Professional", "Signature"),
    "value": ("Everyday", "Essential", "Value-Pack"),
    "compact": ("Handy-Pack", "Small-Pack", "Single-Serve"),
    "vintage": ("Traditional", "Heritage", "Old-Fashioned"),
    "modern": ("Advanced", "New-Formula", "Clean"),
    "rugged": ("Extra-Strength", "Long-Lasting", "Heavy-Duty"),
    "playful": ("Cheerful", "Fun", "Party-Pack"),
}

DEPARTMENT_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "Garden": {"rugged": ("Heavy-Duty", "Weatherproof", "Rugged")},
    "Camping": {"rugged": ("Heavy-Duty", "Weatherproof", "Rugged"), "compact": ("Ultralight", "Packable", "Compact")},
    "Electronics": {"eco": ("Energy-Saving", "Low-Power", "Refurbished"), "rugged": ("Rugged", "Shockproof", "Tough")},
    "Beauty": {
        "eco": ("Organic", "Refillable", "Natural"), "premium": ("Luxury", "Salon-Grade", "Intensive"), "compact": ("Travel-Size", "Pocket", "Mini"),
        "vintage": ("Apothecary", "Old-Fashioned", "Heritage"), "modern": ("Clean-Formula", "Science-Led", "Minimalist"),
        "rugged": ("Sensitive-Skin", "Hypoallergenic", "Gentle"), "playful": ("Festival", "Playful", "Party"),
    },
    "Pets": {"eco": ("Natural", "Biodegradable", "Sustainable"), "rugged": ("Extra-Tough", "Hard-Wearing", "Long-Lasting")},
    "Baby": {"eco": ("Organic", "Sustainable", "Natural"), "rugged": ("Sturdy", "Easy-Clean", "Hard-Wearing"), "premium": ("Premium", "Luxury", "Signature")},
    "Toys": {"premium": ("Deluxe", "Collector's", "Premium"), "rugged": ("Sturdy", "Extra-Tough", "Hard-Wearing"), "compact": ("Travel", "Pocket", "Mini")},
}

COLOURS: tuple[str, ...] = (
    "Sage Green", "Oatmeal", "Charcoal", "Slate Grey", "Navy", "Black", "White", "Terracotta", "Mustard", "Sky Blue", "Coral", "Teal", "Plum", "Cream",
    "Forest Green", "Blush Pink",
)
STYLE_COLOURS: dict[str, tuple[str, ...]] = {
    "eco": ("Sage Green", "Oatmeal", "Forest Green", "Cream"), "premium": ("Black", "Navy", "Charcoal", "Plum"), "modern": ("White", "Black", "Slate Grey"),
    "vintage": ("Cream", "Terracotta", "Mustard", "Teal"), "rugged": ("Black", "Charcoal", "Forest Green"), "playful": ("Coral", "Sky Blue", "Mustard", "Blush Pink"),
}

SERIES: tuple[str, ...] = (
    "Alba", "Arden", "Birch", "Calder", "Cove", "Dover", "Ember", "Fjord", "Gale", "Harbour", "Inlet", "Juno", "Kestrel", "Lark", "Linden", "Meadow", "Nordic",
    "Oslo", "Orchard", "Pebble", "Quill", "Ridge", "Rowan", "Skye", "Solstice", "Tarn", "Tide", "Umber", "Vale", "Wren", "Yarrow", "Zephyr",
)

SHOP = """
# Garden: Fernhollow, Mossgate, Thornbury & Vale, Greenlatch, Hedgerow Lane, Potter's Acre, Rootwise, Solbloom
Watering | Watering Can | 24 | Galvanised Steel, Recycled Resin, Copper | 1.5 L, 5 L, 9 L | with Brass Rose, with Long Spout, for Seedlings | - | Plant Food, Plant Pot
Watering | Garden Hose | 38 | Reinforced Rubber, Braided Vinyl, Expandable Latex | 15 m, 25 m, 30 m | with Spray Nozzle, with Wall Reel, for Lawns | - | Lawn Sprinkler, Watering Can
Watering | Lawn Sprinkler | 29 | Zinc, Stainless Steel | 120 m², 200 m², 300 m² | with Adjustable Range, with Timer, on Spike |  | Grass Seed, Garden Hose
Growing | Plant Pot | 18 | Terracotta, Glazed Ceramic, Fibre Clay | 12 cm, 20 cm, 30 cm | with Saucer, for Balconies, for Herbs | - | Potting Compost, Vegetable Seeds
Growing | Potting Compost* | 12 | Peat-Free, Coir, Loam-Based | 10 L, 40 L, 60 L | for Vegetables, for Houseplants, for Roses |  | Vegetable Seeds, Plant Food
Growing | Vegetable Seeds* | 4 |  | 60 Seeds, 150 Seeds, 300 Seeds | for Raised Beds, for Windowsills, for Greenhouses | Tomato, Carrot, Courgette, Runner Bean, Kale, Chilli Pepper | Plant Food, Garden Trowel
Growing | Plant Food* | 9 | Liquid, Seaweed, Slow-Release | 500 ml, 1 L, 2 kg | for Tomatoes, for Orchids, for Roses |  | Watering Can, Pruning Shears
Lawn Care | Grass Seed* | 16 |  | 500 g, 1 kg, 3 kg | for Shady Lawns, for Play Areas, for Dry Soil |  | Lawn Sprinkler, Garden Trowel
Hand Tools | Pruning Shears | 27 | Carbon Steel, Stainless Steel, Forged Steel | 18 cm, 21 cm | with Ash Handles, with Safety Lock, for Roses | - | Gardening Gloves, Garden Trowel
Hand Tools | Garden Trowel | 14 | Stainless Steel, Carbon Steel | 28 cm, 32 cm | with Ash Handle, with Depth Marks, for Bulbs | - | Gardening Gloves, Plant Pot
Hand Tools | Gardening Gloves | 13 | Bamboo Fibre, Goatskin, Nitrile-Coated | Small, Medium, Large | with Thorn Protection, with Long Cuffs, for Weeding | - | Pruning Shears, Bird Feeder
Wildlife | Bird Feeder | 21 | Powder-Coated Steel, Cedar, Clear Acrylic | 4 Ports, 6 Ports, 2 Trays | with Squirrel Guard, with Window Mount, for Finches | - | Bird Seed, Garden Lantern
Wildlife | Bird Seed* | 15 |  | 2 kg, 5 kg, 12 kg | for Robins, for Finches, for Winter Feeding | Sunflower Hearts, Nyjer, No-Mess Mix, Mealworm Mix | Bird Feeder, Grass Seed
Outdoor Lighting | Garden Lantern | 32 | Hammered Glass, Wrought Iron, Rattan | 25 cm, 40 cm, Set of 2 | with Solar Panel, with Flicker Candle, for Patios | - | Plant Pot, Bird Feeder
# Kitchen: Copperline, Hearth & Ladle, Tavola, Saltmarsh, Bramble Kitchen, Oakspoon, Crumbworks, Brightpan
Cookware | Frying Pan | 42 | Cast Iron, Carbon Steel, Ceramic-Coated, Stainless Steel | 20 cm, 24 cm, 28 cm | with Helper Handle, for Induction Hobs, with Glass Lid | - | Spatula, Cooking Oil Spray
Cookware | Saucepan | 46 | Tri-Ply Steel, Hard-Anodised, Enamelled Steel | 1.5 L, 2 L, 3 L | with Pouring Lip, with Straining Lid, for Induction Hobs | - | Wooden Spoon Set, Dutch Oven
Cookware | Dutch Oven | 95 | Enamelled Cast Iron, Stoneware | 3 L, 5 L, 7 L | with Self-Basting Lid, for Bread Baking, for Stews | - | Wooden Spoon Set, Oven Gloves
Utensils | Spatula | 9 | Silicone, Beech, Stainless Steel | 26 cm, 30 cm, Set of 3 | with Heat-Safe Grip, for Non-Stick Pans, with Slots | - | Chopping Board, Frying Pan
Utensils | Wooden Spoon Set | 14 | Olive Wood, Beech, Acacia | 3 Pieces, 5 Pieces | with Holder, with Corner Spoon, for Jam Making |  | Chopping Board, Mixing Bowl
Utensils | Cooking Oil Spray* | 8 | Rapeseed, Olive, Avocado | 200 ml, 400 ml | for Grilling, for Baking Tins, for Air Fryers |  | Frying Pan, Spatula
Knives | Chef's Knife | 68 | Damascus Steel, Carbon Steel, Stainless Steel | 15 cm, 20 cm, 24 cm | with Walnut Handle, with Blade Guard, for Left-Handers |  | Knife Sharpener, Chopping Board
Knives | Knife Sharpener | 24 | Whetstone, Ceramic, Diamond | 1000 Grit, 400/1000 Grit, 3 Stages | with Angle Guide, with Bamboo Base, for Serrated Blades |  | Chef's Knife, Chopping Board
Knives | Chopping Board | 26 | Bamboo, Teak, End-Grain Oak, Recycled Plastic | 30 x 20 cm, 40 x 30 cm, 50 x 35 cm | with Juice Groove, with Non-Slip Feet, for Bread |  | Chef's Knife, Mixing Bowl
Baking | Mixing Bowl | 21 | Stoneware, Stainless Steel, Borosilicate Glass | 2 L, 4 L, Set of 3 | with Pouring Spout, with Airtight Lid, for Dough | - | Baking Tin, Kitchen Scales
Baking | Baking Tin | 16 | Carbon Steel, Silicone, Aluminised Steel | 20 cm, 23 cm, 900 g Loaf | with Loose Base, with Fluted Edge, for Sourdough | - | Oven Gloves, Kitchen Scales
Baking | Oven Gloves | 17 | Quilted Cotton, Silicone, Linen | One Pair, Double Glove | with Hanging Loop, with Long Cuffs, for Pizza Ovens | - | Baking Tin, Dutch Oven
Baking | Kitchen Scales | 28 | Tempered Glass, Stainless Steel | 3 kg, 5 kg, 10 kg | with Tare Button, with Removable Bowl, for Coffee | - | Mixing Bowl, Pour-Over Coffee Dripper
Coffee and Tea | Pour-Over Coffee Dripper | 25 | Porcelain, Borosilicate Glass, Copper | 2 Cups, 4 Cups, 6 Cups | with Reusable Filter, with Cork Collar, for Camping Stoves | - | Coffee Beans, Coffee Grinder
Coffee and Tea | Coffee Beans* | 13 | Single-Origin, Fair-Trade, Dark-Roast | 250 g, 500 g, 1 kg | for Espresso, for Filter, for Cold Brew | Ethiopia, Colombia, Brazil, House Blend, Decaf | Coffee Grinder, Espresso Cups
Coffee and Tea | Coffee Grinder | 64 | Stainless Steel, Walnut and Steel, Ceramic Burr | 20 g, 35 g, 250 g | with 18 Grind Settings, with Hand Crank, for Espresso | - | Coffee Beans, Kitchen Scales
Coffee and Tea | Espresso Cups | 22 | Double-Walled Glass, Stoneware, Porcelain | Set of 2, Set of 4, Set of 6 | with Saucers, with Speckled Glaze, for Cortado | - | Coffee Beans, Pour-Over Coffee Dripper
# Beauty: Lumé Botanics, Rosehaven, Petal & Pine, Dermacalm, Saffi, Velvet Fig, Nordlys Skin, Honeyfield
Face Care | Face Cleanser* | 15 | Foaming, Cream, Jelly, Oil | 100 ml, 150 ml, 200 ml | for Dry Skin, for Oily Skin, for Make-Up Removal | Rosewater, Green Tea, Oat Milk, Chamomile | Facial Toner, Face Cream
Face Care | Facial Toner* | 14 | Hydrating, Exfoliating, Balancing | 100 ml, 200 ml | for Oily Skin, for Dull Skin, with Glycolic Acid | Rosewater, Witch Hazel, Cucumber, Green Tea | Face Serum, Face Cream
Face Care | Face Serum* | 28 | Brightening, Plumping, Soothing | 15 ml, 30 ml, 50 ml | with Vitamin C, with Hyaluronic Acid, with Niacinamide |  | Face Cream, Sunscreen Lotion
Face Care | Face Cream* | 26 | Rich, Light, Gel | 30 ml, 50 ml, 75 ml | for Dry Skin, for Night Time, with Ceramides | Rosehip, Shea, Calendula, Squalane | Sunscreen Lotion, Lip Balm
Face Care | Sunscreen Lotion* | 19 | Mineral, Tinted, Invisible | SPF 30, SPF 50 | for Face, for Children, for Outdoor Sports |  | Lip Balm, Face Cleanser
Face Care | Lip Balm* | 6 | Beeswax, Shea Butter, Tinted | 4 g, 10 g, Set of 3 | for Chapped Lips, with SPF 20, for Overnight Care | Honey, Cherry, Mint, Vanilla, Coconut | Hand Cream, Lipstick
Make-Up | Lipstick* | 18 | Matte, Satin, Sheer | 3 g, 4 g | with Jojoba Oil, for All-Day Wear, with Refill Case | Brick Red, Rose Nude, Berry, Coral Pink, Plum | Mascara, Make-Up Brush Set
Make-Up | Mascara* | 17 | Volumising, Lengthening, Tubing | 7 ml, 10 ml | for Short Lashes, for Contact Lens Wearers, with Curved Brush | Black, Brown, Navy | Face Cleanser, Make-Up Brush Set
Make-Up | Make-Up Brush Set | 29 | Bamboo, Synthetic Fibre, Rose-Gold | 5 Pieces, 8 Pieces, 12 Pieces | with Roll Case, for Eyes, for Foundation | - | Lipstick, Mascara
Hair Care | Shampoo* | 13 | Solid, Sulphate-Free, Clarifying | 80 g Bar, 250 ml, 500 ml | for Curly Hair, for Fine Hair, for Coloured Hair | Rosemary, Coconut, Argan, Citrus | Hair Conditioner, Hair Brush
Hair Care | Hair Conditioner* | 14 | Leave-In, Deep-Repair, Lightweight | 60 g Bar, 250 ml, 500 ml | for Curly Hair, for Fine Hair, for Frizz Control | Rosemary, Coconut, Argan, Citrus | Hair Brush, Hair Oil
Hair Care | Hair Oil* | 20 | Argan, Camellia, Castor | 30 ml, 50 ml, 100 ml | for Split Ends, for Scalp Massage, for Curly Hair |  | Hair Brush, Shampoo
Hair Care | Hair Brush | 19 | Boar Bristle, Bamboo, Vented | Paddle, Round 32 mm, Oval | for Detangling, for Blow-Drying, for Thick Hair | - | Shampoo, Hair Oil
Body Care | Hand Cream* | 10 | Shea Butter, Almond, Urea | 50 ml, 75 ml, Set of 3 | for Cracked Hands, for Gardeners, for Night Care | Lavender, Fig, Citrus, Verbena | Bath Salts, Lip Balm
Body Care | Bath Salts* | 12 | Epsom, Dead Sea, Himalayan | 300 g, 500 g, 1 kg | for Sore Muscles, for Sleep, for Sharing | Lavender, Eucalyptus, Rose, Bergamot | Hand Cream, Hair Conditioner
# Sports: Stridewell, Corefolk, Peakline, Rallyhouse, Aquavane, Trailmark, Kettle & Bar, Fleetfoot
Running | Running Shoes | 98 | Knit-Mesh, Recycled-Mesh, Water-Repellent | Women's, Men's, Unisex | for Road Racing, for Trails, with Wide Toe Box | - | Running Socks, Running Belt
Running | Running Socks | 15 | Merino, Cotton Blend, Compression | 35-38, 39-42, 43-46 | with Blister Protection, for Marathons, with Arch Support | - | Running Belt, Sports Water Bottle
Running | Running Belt | 22 | Stretch-Lycra, Neoprene, Reflective | Small, Medium, Large | with Phone Pocket, with Two Flasks, for Race Numbers | - | Sports Water Bottle, Running Shoes
Yoga | Yoga Mat | 39 | Natural Rubber, Cork, Non-Slip TPE | 4 mm, 6 mm, 8 mm | with Carry Strap, with Alignment Lines, for Hot Yoga | - | Yoga Block, Yoga Leggings
Yoga | Yoga Block | 15 | Cork, EVA Foam, Bamboo | Single, Set of 2 | with Strap, with Rounded Edges, for Beginners | - | Yoga Leggings, Foam Roller
Yoga | Yoga Leggings | 44 | Bamboo-Blend, Recycled-Nylon, Seamless | XS-S, M-L, XL-XXL | with High Waist, with Side Pockets, for Pilates | - | Yoga Mat, Foam Roller
Strength | Kettlebell | 36 | Cast Iron, Vinyl-Coated, Competition Steel | 6 kg, 12 kg, 20 kg | with Flat Base, with Wide Handle, for Swings | - | Dumbbell Set, Resistance Bands
Strength | Dumbbell Set | 58 | Neoprene, Chrome, Hex Rubber | 2 x 2 kg, 2 x 5 kg, 2 x 10 kg | with Rack, with Anti-Roll Shape, for Home Workouts | - | Resistance Bands, Foam Roller
Strength | Resistance Bands | 18 | Latex, Fabric, Braided | Set of 3, Set of 5 | with Door Anchor, for Physiotherapy, for Glutes | - | Foam Roller, Protein Powder
Recovery | Foam Roller | 25 | EPP Foam, Cork, Textured EVA | 30 cm, 45 cm, 90 cm | for Back Pain, for Deep Tissue Massage, with Hollow Core | - | Protein Powder, Resistance Bands
Recovery | Protein Powder* | 27 | Whey, Pea, Soy | 500 g, 1 kg, 2 kg | for Muscle Recovery, for Vegans, for Smoothies | Vanilla, Chocolate, Strawberry, Unflavoured | Sports Water Bottle, Kettlebell
Hydration | Sports Water Bottle | 19 | Stainless Steel, Tritan, Borosilicate Glass | 500 ml, 750 ml, 1 L | with Straw Lid, with Time Marks, for Cycling | - | Running Belt, Protein Powder
Swimming | Swimming Goggles | 21 | Mirrored, Clear-Lens, Silicone-Seal | Adult, Junior | with Anti-Fog Lenses, for Open Water, for Racing | - | Swim Cap, Microfibre Towel
Swimming | Swim Cap | 10 | Silicone, Lycra, Latex | One Size, Junior | for Long Hair, for Racing, with Ear Cover | - | Microfibre Towel, Swimming Goggles
Swimming | Microfibre Towel | 17 | Suede-Finish, Waffle, Terry | 80 x 40 cm, 130 x 80 cm, 160 x 80 cm | with Mesh Bag, with Hanging Loop, for Swimmers | - | Swimming Goggles, Swim Cap
# Office: Paperwright, Inkwell & Sons, Desklane, Ledgerly, Clipstone, Northdesk, Foliohaus, Margin & Co
Printing | Inkjet Printer | 128 | Wireless, All-in-One, Photo | A4, A3 | with Refillable Tanks, with Duplex Printing, for Home Offices | - | Printer Ink Cartridge, Printer Paper
Printing | Laser Printer | 189 | Monochrome, Colour, All-in-One | A4, 30 ppm, 40 ppm | with Duplex Printing, with Network Port, for Small Offices | - | Toner Cartridge, Printer Paper
Printing | Printer Ink Cartridge* | 26 | Pigment, Dye-Based, High-Yield | Single, 4-Pack, 8-Pack | for Photo Printing, for Inkjet Printers, for Documents | Black, Tri-Colour, Cyan, Magenta | Printer Paper, Printer Ink Cartridge
Printing | Toner Cartridge* | 54 | Remanufactured, High-Yield, Standard | 1,500 Pages, 3,000 Pages, 6,000 Pages | for Laser Printers, for Reports, for Small Offices | Black, Cyan, Yellow, Magenta | Printer Paper, Ring Binder
Printing | Printer Paper* | 11 | Recycled, Bright White, Glossy Photo | 250 Sheets, 500 Sheets, 5 x 500 Sheets | for Double-Sided Printing, for Inkjet Printers, for Laser Printers |  | Ring Binder, Hole Punch
Filing | Ring Binder | 8 | Linen-Covered, Kraft Board, Polypropylene | A4 2-Ring, A4 4-Ring, A5 | with Label Holder, with Elastic Closure, for Tax Records | - | Hole Punch, Index Dividers
Filing | Index Dividers* | 5 | Card, Recycled Board, Polypropylene | 5 Tabs, 12 Tabs, A-Z | for Ring Binders, with Write-On Tabs, for Lesson Planning |  | Ring Binder, Highlighter Set
Filing | Hole Punch | 17 | Steel, Cast Metal, Die-Cast | 10 Sheets, 30 Sheets, 65 Sheets | with Paper Guide, with Chip Tray, for Ring Binders | - | Ring Binder, Stapler
Filing | Stapler | 14 | Steel, Die-Cast, Brass | 20 Sheets, 40 Sheets, 100 Sheets | with Flat Clinch, with Staples, for Booklets | - | Index Dividers, Notebook
Writing | Notebook | 13 | Linen-Bound, Recycled-Paper, Faux-Leather | A5, A4, B6 Pocket | with Dotted Pages, with Lined Pages, for Bullet Journals | - | Fountain Pen, Highlighter Set
Writing | Fountain Pen | 34 | Brass, Resin, Brushed Steel | Fine Nib, Medium Nib, Broad Nib | with Ink Converter, with Gift Box, for Left-Handers | - | Bottled Ink, Notebook
Writing | Bottled Ink* | 14 | Document-Proof, Shimmer, Iron-Gall | 30 ml, 50 ml, 80 ml | for Fountain Pens, for Calligraphy, for Sketching | Midnight Blue, Sepia, Emerald, Burgundy, Jet Black | Fountain Pen, Notebook
Writing | Highlighter Set | 8 | Gel, Chisel-Tip, Dual-Tip | 4 Pieces, 6 Pieces, 12 Pieces | for Students, for Thin Paper, with Pen Case | Pastel, Neon, Earth Tones | Notebook, Index Dividers
Desk | Desk Lamp | 45 | Aluminium, Brass, Bamboo | 8 W, 12 W | with USB Port, with Clamp, with Dimmer | - | Desk Organiser, Monitor Stand
Desk | Desk Organiser | 23 | Bamboo, Metal Mesh, Walnut, Felt | 3 Drawers, 5 Compartments, 6 Compartments | with Pen Holder, with Letter Tray, for Small Desks | - | Desk Lamp, Stapler
Desk | Monitor Stand | 36 | Walnut, Steel, Bamboo | 42 cm, 55 cm, 100 cm | with Drawer, with Cable Tray, for Two Screens | - | Desk Organiser, Desk Lamp
# Toys: Tumbletree, Pip & Otter, Brickaroo, Wobblewood, Little Comet, Foxglove Games, Marblemoon, Kite & Anchor
Building | Building Blocks | 29 | Maple, Cork, Magnetic | 40 Pieces, 80 Pieces, 150 Pieces | with Storage Bag, for Toddlers, with Idea Booklet | Castle, Farm, City, Rainbow | Marble Run, Play Figures
Building | Marble Run | 38 | Beech, Bamboo, See-Through | 60 Pieces, 100 Pieces, 180 Pieces | with Glass Marbles, with Funnel, for Ages 5 and Up |  | Building Blocks, Science Kit
Building | Train Set | 49 | Beech, Metal, Battery-Powered | 35 Pieces, 60 Pieces, 90 Pieces | with Bridge, with Turntable, for Ages 3 and Up | Mountain, Harbour, Farm, City | Play Figures, Building Blocks
Pretend Play | Play Figures | 17 | Hand-Painted, Wooden, Soft-Vinyl | Set of 4, Set of 8, Set of 12 | with Play Mat, for Train Sets, for Doll Houses | Dinosaur, Farm Animal, Knight, Ocean Animal, Space Explorer | Doll House, Train Set
Pretend Play | Doll House | 84 | Birch, Poplar, Folding Card | 2 Floors, 3 Floors, 4 Rooms | with Furniture, with Lift, with Carry Handle | - | Play Figures, Soft Toy
Pretend Play | Play Kitchen Set | 46 | Wooden, Felt, Metal | 12 Pieces, 20 Pieces, 35 Pieces | with Cutting Fruit, with Tea Set, for Ages 3 and Up | - | Doll House, Soft Toy
Soft Toys | Soft Toy | 19 | Plush, Organic-Cotton, Corduroy | 20 cm, 35 cm, 60 cm | with Rattle, for Newborns, with Story Book | Rabbit, Bear, Fox, Elephant, Penguin, Dragon | Play Kitchen Set, Jigsaw Puzzle
Games | Jigsaw Puzzle | 16 | Cardboard, Wooden, Glow-in-the-Dark | 100 Pieces, 500 Pieces, 1000 Pieces | with Poster, for Rainy Days, with Sorting Trays | World Map, Dinosaur, Solar System, Woodland, Harbour Town | Board Game, Jigsaw Puzzle
Games | Board Game | 31 | Cooperative, Strategy, Deduction | 2 Players, 2-4 Players, 3-6 Players | for Family Evenings, for Ages 8 and Up, with Wooden Pieces | Pirate, Railway, Rainforest, Castle, Market | Card Game, Jigsaw Puzzle
Games | Card Game | 13 | Trick-Taking, Memory, Bluffing | 2-6 Players, 3-8 Players | for Parties, for Travelling, for Ages 6 and Up | Animal, Wizard, Detective, Space | Board Game, Dice Set
Games | Dice Set | 15 | Resin, Metal, Wooden | 7 Pieces, 14 Pieces, 36 Pieces | with Felt Bag, for Role-Playing Games, with Dice Tray | - | Board Game, Card Game
Science | Science Kit | 33 | Chemistry, Crystal-Growing, Electronics | 12 Experiments, 30 Experiments, 60 Experiments | for Ages 8 and Up, with Lab Book, for Classrooms |  | Telescope, Marble Run
Science | Telescope | 89 | Refractor, Reflector | 50 mm, 70 mm, 114 mm | with Tripod, with Moon Filter, for Beginners | - | Science Kit, Jigsaw Puzzle
Arts | Colouring Pencils | 12 | Cedar, Watercolour, Triangular-Grip | Set of 12, Set of 24, Set of 48 | with Tin, with Sharpener, for Little Hands |  | Colouring Book, Modelling Clay
Arts | Colouring Book | 8 | Spiral-Bound, Giant, Reusable | 32 Pages, 64 Pages, 100 Pages | with Stickers, for Toddlers, for Car Journeys | Dinosaur, Mermaid, Space, Garden, Castle | Colouring Pencils, Modelling Clay
Arts | Modelling Clay* | 11 | Air-Dry, Plant-Based, Oven-Bake | 6 Colours, 12 Colours, 24 Colours | with Shaping Tools, for Ages 3 and Up, for Classrooms |  | Colouring Pencils, Play Kitchen Set
# Electronics: Voltaire Audio, Auralis, Kineo, Pixelhaven, Northwave, Orbitech, Lumenar, Cablecraft
Audio | Wireless Headphones | 118 | Over-Ear, On-Ear, Open-Back | 30 h Battery, 40 h Battery, 60 h Battery | with Noise Cancelling, with Microphone, for Studio Listening | - | Headphone Stand, Audio Cable
Audio | Wireless Earbuds | 74 | In-Ear, Semi-Open, Bone-Conduction | 6 h Battery, 8 h Battery, 10 h Battery | with Charging Case, for Running, with Ear Hooks | - | USB-C Charger, Power Bank
Audio | Bluetooth Speaker | 69 | Fabric-Covered, Walnut, Aluminium | 10 W, 20 W, 40 W | with Stereo Pairing, for Bathrooms, with Carry Strap | - | Power Bank, Audio Cable
Audio | Record Player | 165 | Belt-Drive, Direct-Drive, Suitcase | 2 Speeds, 3 Speeds | with Built-in Preamp, with USB Output, with Dust Cover | - | Bluetooth Speaker, Audio Cable
Audio | Audio Cable | 14 | Braided, Gold-Plated, Shielded | 1 m, 2 m, 5 m | for Headphones, for Speakers, with 3.5 mm Jack |  | Headphone Stand, Record Player
Audio | Headphone Stand | 24 | Aluminium, Walnut, Acrylic | Single, Double | with USB Hub, with Cable Holder, for Desks | - | Wireless Headphones, USB-C Hub
Power | USB-C Charger | 28 | GaN, Dual-Port, Wall-Plug | 20 W, 45 W, 65 W | for Laptops, for Phones, with Folding Plug | - | USB-C Cable, Power Bank
Power | USB-C Cable | 12 | Braided-Nylon, Silicone, Right-Angle | 0.5 m, 1 m, 2 m | for Fast Charging, for Data Transfer, with Cable Tie | - | USB-C Charger, Power Bank
Power | Power Bank | 36 | Aluminium, Soft-Touch, Solar | 5,000 mAh, 10,000 mAh, 20,000 mAh | with Two Ports, with Wireless Charging, for Travel | - | USB-C Cable, Bluetooth Speaker
Computing | Mechanical Keyboard | 92 | Aluminium, Low-Profile, Hot-Swap | 60 %, 75 %, Full Size | with Tactile Switches, with Backlight, for Programmers | - | Wireless Mouse, Wrist Rest
Computing | Wireless Mouse | 34 | Ergonomic, Silent-Click, Vertical | 1600 dpi, 4000 dpi | with USB Receiver, for Small Hands, for Left-Handers | - | Mouse Pad, Mechanical Keyboard
Computing | Mouse Pad | 16 | Wool Felt, Cork, Micro-Weave Cloth | 25 x 20 cm, 40 x 30 cm, 80 x 40 cm | with Stitched Edges, with Gel Support, for Gaming | - | Wrist Rest, USB-C Hub
Computing | Wrist Rest | 18 | Walnut, Memory-Foam, Gel | 75 %, Full Size | for Keyboards, with Non-Slip Base, for Long Typing | - | Mouse Pad, Mechanical Keyboard
Computing | USB-C Hub | 42 | Aluminium, Braided-Cable | 4 Ports, 7 Ports, 11 Ports | with HDMI, with Card Reader, for Tablets | - | USB-C Cable, Wireless Mouse
Photo | Camera Tripod | 58 | Carbon-Fibre, Aluminium, Flexible | 25 cm, 130 cm, 165 cm | with Phone Holder, with Ball Head, for Vlogging | - | Camera Bag, Memory Card
Photo | Camera Bag | 49 | Waxed-Canvas, Recycled-Nylon, Leather | 5 L, 10 L, 20 L | with Rain Cover, with Laptop Sleeve, for Mirrorless Cameras | - | Memory Card, Camera Tripod
Photo | Memory Card | 22 | microSD, SDXC | 64 GB, 128 GB, 256 GB | for Action Cameras, for 4K Video, with Adapter |  | Camera Bag, USB-C Hub
# Pets: Pawsworth, Whisker Lane, Barkley & Finch, Tailspin, Feathertop, Snufflebox, Green Paw, Muddy Hound
Dogs | Dog Collar | 18 | Leather, Hemp, Reflective-Nylon | Small, Medium, Large | with Name Tag, with Quick-Release Buckle, for Puppies | - | Dog Lead, Dog Harness
Dogs | Dog Lead | 21 | Rope, Leather, Reflective-Nylon | 1.2 m, 2 m, 5 m | with Padded Handle, for Jogging, for Training | - | Dog Treats, Dog Harness
Dogs | Dog Harness | 32 | Mesh, Canvas, Padded | Small, Medium, Large | with Front Clip, with Handle, for Strong Pullers | - | Dog Treats, Dog Lead
Dogs | Dog Treats* | 8 | Grain-Free, Air-Dried, Soft-Baked | 100 g, 250 g, 500 g | for Training, for Puppies, for Dental Care | Chicken, Salmon, Peanut Butter, Duck | Dog Chew Toy, Dog Bed
Dogs | Dog Chew Toy | 12 | Natural Rubber, Rope, Olive Wood | Small, Medium, Large | with Treat Pocket, with Squeaker, for Heavy Chewers | - | Dog Treats, Dog Bed
Dogs | Dog Bed | 58 | Memory-Foam, Corduroy, Canvas | 60 cm, 80 cm, 110 cm | with Washable Cover, with Bolster, for Older Dogs | - | Dog Chew Toy, Pet Bowl
Cats | Cat Litter* | 14 | Clumping, Wood-Pellet, Silica | 5 L, 10 L, 20 L | for Kittens, with Odour Control, for Several Cats |  | Cat Treats, Litter Scoop
Cats | Litter Scoop | 9 | Stainless Steel, Bamboo, Aluminium | 25 cm, 30 cm | with Stand, with Wide Slots, with Bag Holder | - | Cat Litter, Cat Treats
Cats | Cat Scratching Post | 44 | Sisal, Corrugated-Cardboard, Carpet | 50 cm, 80 cm, 120 cm | with Platform, with Hanging Ball, for Kittens | - | Cat Toy, Cat Bed
Cats | Cat Toy | 9 | Feather, Catnip, Felt | Single, Set of 3, Set of 6 | with Wand, with Bell, for Indoor Cats | Mouse, Fish, Bird, Ball | Cat Treats, Cat Scratching Post
Cats | Cat Treats* | 6 | Freeze-Dried, Crunchy, Creamy | 40 g, 60 g, 150 g | for Kittens, for Shiny Coats, for Hairball Control | Tuna, Salmon, Chicken, Shrimp | Cat Toy, Cat Litter
Cats | Cat Bed | 36 | Wool-Felt, Plush, Wicker | 40 cm, 50 cm, 60 cm | with Cushion, for Radiators, with Cave | - | Cat Scratching Post, Pet Bowl
Feeding | Pet Bowl | 17 | Stoneware, Stainless Steel, Bamboo | 300 ml, 600 ml, 1 L | with Non-Slip Base, with Raised Stand, for Slow Feeding | - | Dog Treats, Cat Treats
Fish | Aquarium | 112 | Glass, Curved-Glass, Acrylic | 20 L, 54 L, 120 L | with LED Light, with Filter, for Bettas | - | Fish Food, Aquarium Plant
Fish | Fish Food* | 7 | Flake, Granule, Wafer | 100 ml, 250 ml, 1 L | for Tropical Fish, for Goldfish, for Shrimp |  | Aquarium Plant, Aquarium
Fish | Aquarium Plant | 10 | Live, Silk, Potted | 10 cm, 20 cm, Set of 5 | for Beginners, for Foreground, for Shrimp Tanks | Java Fern, Anubias, Moss Ball, Vallisneria | Fish Food, Aquarium
# Home: Linen & Loft, Halden, Candlewick, Featherstone, Mirabel, Quiet Corner, Woven Wave, Stillhouse
Bedding | Duvet Cover | 62 | Linen, Percale Cotton, Bamboo | Single, Double, King | with Button Closure, with Pillowcases, for Summer | - | Pillow, Fitted Sheet
Bedding | Fitted Sheet | 34 | Linen, Jersey Cotton, Sateen | Single, Double, King | for Deep Mattresses, with Elastic Corners, for Summer | - | Duvet Cover, Pillow
Bedding | Pillow | 39 | Memory-Foam, Goose-Down, Buckwheat | 40 x 60 cm, 50 x 75 cm, Pack of 2 | for Side Sleepers, with Cooling Cover, for Neck Pain |  | Throw Blanket, Fitted Sheet
Living Room | Throw Blanket | 45 | Merino, Chunky-Knit Cotton, Fleece | 130 x 170 cm, 150 x 200 cm | with Fringe, for Sofas, for Reading Nooks | - | Cushion Cover, Scented Candle
Living Room | Cushion Cover | 19 | Velvet, Linen, Boucle | 40 x 40 cm, 45 x 45 cm, 60 x 40 cm | with Hidden Zip, with Embroidery, for Sofas | - | Throw Blanket, Area Rug
Living Room | Area Rug | 129 | Jute, Wool, Flat-Weave Cotton | 80 x 150 cm, 120 x 180 cm, 160 x 230 cm | with Non-Slip Backing, for Hallways, with Geometric Pattern | - | Cushion Cover, Floor Lamp
Living Room | Floor Lamp | 88 | Brass, Oak-Tripod, Paper-Shade | 140 cm, 155 cm, 165 cm | with Dimmer, with Reading Arm, for Corners | - | Light Bulb, Area Rug
Living Room | Light Bulb* | 9 | LED, Filament, Smart | E14 4 W, E27 7 W, GU10 5 W | with Warm Light, with Dimming, for Reading |  | Floor Lamp, Picture Frame
Decoration | Scented Candle | 22 | Soy-Wax, Beeswax, Coconut-Wax | 150 g, 220 g, 400 g | with Wooden Wick, with Ceramic Jar, for Bathrooms | Cedar, Fig, Lavender, Amber, Orange Blossom | Reed Diffuser, Vase
Decoration | Reed Diffuser | 27 | Glass, Ceramic | 100 ml, 200 ml | with Rattan Sticks, for Small Rooms, with Refill | Cedar, Fig, Lavender, White Tea | Scented Candle, Vase
Decoration | Vase | 29 | Ribbed-Glass, Stoneware, Terracotta | 15 cm, 25 cm, 40 cm | with Narrow Neck, for Dried Flowers, for Tulips | - | Picture Frame, Scented Candle
Decoration | Picture Frame | 21 | Oak, Brass, Black-Metal | 13 x 18 cm, A4, 40 x 50 cm | with Mount, with Glass Front, for Posters |  | Vase, Cushion Cover
Bathroom | Bath Towel | 24 | Organic-Cotton, Waffle, Bamboo | 50 x 100 cm, 70 x 140 cm, Set of 4 | with Hanging Loop, with Striped Border, for Guests | - | Bath Mat, Shower Curtain
Bathroom | Bath Mat | 26 | Cotton, Teak, Diatomite | 50 x 80 cm, 60 x 90 cm | with Non-Slip Backing, with Quick Drying, for Showers | - | Bath Towel, Shower Curtain
Bathroom | Shower Curtain | 25 | Linen-Look, Recycled-Polyester, Waffle | 120 x 200 cm, 180 x 200 cm | with Weighted Hem, with Rings, for Bathtubs | - | Bath Mat, Bath Towel
# Tools: Ironbridge, Workmate & Daughters, Torquewell, Hammerstone, Fixfolk, Plumbline, Gritstone, Anvil Lane
Power Tools | Cordless Drill | 109 | Brushless, Two-Speed, Hammer-Action | 12 V, 18 V, 20 V | with Two Batteries, with Case, for Masonry |  | Drill Bit Set, Screw Assortment
Power Tools | Drill Bit Set | 25 | Cobalt, Titanium-Coated, Carbide | 13 Pieces, 25 Pieces, 50 Pieces | for Metal, for Wood, for Masonry |  | Wall Plugs, Screw Assortment
Power Tools | Orbital Sander | 67 | Corded, Cordless, Random | 125 mm, 150 mm | with Dust Bag, with Variable Speed, for Furniture |  | Sandpaper, Wood Stain
Power Tools | Sandpaper* | 9 | Aluminium-Oxide, Mesh, Wet-and-Dry | 80 Grit, 120 Grit, 240 Grit | for Orbital Sanders, for Varnish, for Bare Wood |  | Wood Stain, Paint Brush Set
Hand Tools | Claw Hammer | 24 | Fibreglass, Hickory, Forged Steel | 450 g, 570 g | with Magnetic Nail Holder, with Rubber Grip, for Framing |  | Nail Assortment, Tape Measure
Hand Tools | Screwdriver Set | 29 | Chrome-Vanadium, Insulated, Magnetic-Tip | 6 Pieces, 12 Pieces, 40 Pieces | with Rack, for Electronics, with Ratchet Handle |  | Screw Assortment, Spirit Level
Hand Tools | Tape Measure | 11 | Steel, Fibreglass, Magnetic-Hook | 3 m, 5 m, 8 m | with Auto Lock, with Belt Clip, for Left-Handers | - | Spirit Level, Claw Hammer
Hand Tools | Spirit Level | 19 | Aluminium, Magnetic, Box-Section | 25 cm, 60 cm, 100 cm | with Three Vials, for Shelves, with Shock Caps | - | Screwdriver Set, Wall Plugs
Fixings | Screw Assortment* | 13 | Stainless Steel, Zinc-Plated, Brass | 200 Pieces, 500 Pieces, 1000 Pieces | for Wood, for Decking, with Sorted Box |  | Wall Plugs, Tool Box
Fixings | Wall Plugs* | 7 | Nylon, Universal, Hollow-Wall | 50 Pieces, 100 Pieces, 300 Pieces | for Plasterboard, for Brick, with Screws |  | Spirit Level, Cordless Drill
Fixings | Nail Assortment* | 8 | Galvanised, Bright Steel, Brass | 250 Pieces, 600 Pieces | for Picture Hanging, for Roofing, with Sorted Box |  | Claw Hammer, Tool Box
Painting | Paint Brush Set | 17 | Synthetic, Natural-Bristle, Bamboo | 3 Pieces, 5 Pieces, 8 Pieces | for Window Frames, for Varnish, with Angled Tips |  | Wall Paint, Masking Tape
Painting | Wall Paint* | 34 | Chalk, Clay, Washable | 1 L, 2.5 L, 5 L | for Kitchens, for Children's Rooms, for Bathrooms | - | Masking Tape, Paint Brush Set
Painting | Wood Stain* | 21 | Oil-Based, Water-Based, Beeswax | 500 ml, 750 ml, 2.5 L | for Decking, for Furniture, for Fences | Oak, Walnut, Teak, Ebony | Paint Brush Set, Sandpaper
Painting | Masking Tape* | 6 | Paper, Delicate-Surface, Outdoor | 24 mm, 36 mm, 48 mm | for Sharp Edges, for Wallpaper, for Windows |  | Wall Paint, Tape Measure
Storage | Tool Box | 37 | Steel, Polypropylene, Waxed-Canvas | 40 cm, 50 cm, 3 Trays | with Tote Tray, with Wheels, with Lock | - | Screwdriver Set, Claw Hammer
# Baby: Cloudberry Baby, Nestling, Dot & Daisy, Snugglewick, Tiny Harbour, Moonmilk, Babbling Brook, Softstep
Feeding | Baby Bottle | 13 | Glass, Silicone, Anti-Colic | 150 ml, 240 ml, Set of 3 | with Slow-Flow Teat, for Newborns, with Handles | - | Bottle Brush, Bottle Warmer
Feeding | Bottle Brush | 8 | Silicone, Bamboo, Foam-Tip | 25 cm, 30 cm, Set of 2 | with Stand, with Teat Brush, for Narrow Bottles | - | Bottle Warmer, Baby Bottle
Feeding | Bottle Warmer | 36 | Fast-Heating, Double, Steam | 1 Bottle, 2 Bottles | for Night Feeds, with Steriliser, for Car Journeys | - | Baby Bottle, Baby Bib
Feeding | Baby Bib | 11 | Muslin, Silicone, Terry | Pack of 2, Pack of 5 | with Crumb Catcher, with Sleeves, for Weaning | - | Weaning Spoon Set, Baby Bowl
Feeding | Weaning Spoon Set | 9 | Silicone, Bamboo, Soft-Tip | 2 Pieces, 4 Pieces, 6 Pieces | with Travel Case, for Self-Feeding, with Short Handles | - | Baby Bowl, Baby Bib
Feeding | Baby Bowl | 13 | Silicone, Bamboo, Wheat-Straw | 300 ml, 450 ml, Set of 2 | with Suction Base, with Lid, with Spoon | - | Weaning Spoon Set, Highchair Cushion
Feeding | Highchair Cushion | 24 | Cotton, Wipe-Clean, Padded | One Size | for Wooden Highchairs, with Harness Slots, with Side Support | - | Baby Bib, Baby Bowl
Sleeping | Baby Sleeping Bag | 34 | Cotton-Jersey, Merino, Bamboo | 0-6 Months, 6-18 Months, 18-36 Months | for Summer, for Winter, with Two-Way Zip | - | Baby Night Light, Cot Sheet
Sleeping | Cot Sheet | 16 | Organic-Cotton, Jersey, Muslin | 60 x 120 cm, 70 x 140 cm, Pack of 2 | with Elastic Corners, for Moses Baskets, with Star Print | - | Baby Sleeping Bag, Baby Mobile
Sleeping | Baby Night Light | 23 | Silicone, Wooden, Plug-in | 1 W, 3 W, Rechargeable | with Timer, with Lullabies, for Night Feeds | Bunny, Moon, Cloud, Whale | Baby Mobile, Baby Monitor
Sleeping | Baby Mobile | 31 | Felt, Wooden, Crochet | 30 cm, 45 cm | with Music Box, with Cot Arm, for Nurseries | Forest Animals, Clouds, Planets, Sea Animals | Cot Sheet, Baby Night Light
Sleeping | Baby Monitor | 97 | Video, Audio, Dual-Camera | 300 m Range, 500 m Range | with Night Vision, with Room Temperature, for Twins |  | Baby Night Light, Baby Sleeping Bag
Changing | Nappies* | 18 | Plant-Based, Ultra-Dry, Unbleached | Size 1, Size 3, Size 5 | for Newborns, for Overnight, for Sensitive Skin |  | Baby Wipes, Nappy Cream
Changing | Baby Wipes* | 9 | Water-Based, Bamboo, Plant-Fibre | 60 Wipes, 3 x 60 Wipes, 9 x 60 Wipes | for Sensitive Skin, for Newborns, with Aloe Vera |  | Nappy Cream, Nappies
Changing | Nappy Cream* | 8 | Zinc, Calendula, Barrier | 50 ml, 100 ml | for Redness, for Overnight, for Sensitive Skin |  | Changing Mat, Baby Wipes
Changing | Changing Mat | 27 | Wipe-Clean, Quilted-Cotton, Foam | 50 x 70 cm, 60 x 80 cm | with Raised Sides, with Storage Pockets, for Travel | - | Nappies, Baby Wipes
Out and About | Baby Carrier | 79 | Linen, Mesh, Jersey | Newborn, 3-36 Months | with Lumbar Support, for Hiking, with Hood | - | Changing Mat, Baby Sunhat
Out and About | Baby Sunhat | 14 | Cotton, Muslin, UV-Fabric | 0-6 Months, 6-12 Months, 1-2 Years | with Neck Flap, with Chin Strap, for Beach Days | - | Baby Carrier, Baby Bottle
# Camping: Wildmoor, Campfold, Larkspur Outdoor, Tarn & Timber, Northpitch, Emberlight, Basecraft, Drift & Dune
Shelter | Dome Tent | 149 | Ripstop-Polyester, Cotton-Canvas, Silnylon | 1 Person, 2 Person, 4 Person | with Porch, with Blackout Room, for Backpacking | - | Tent Pegs, Sleeping Bag
Shelter | Tent Pegs | 12 | Aluminium, Steel, Titanium | Set of 6, Set of 10, Set of 20 | for Sandy Ground, for Hard Ground, with Reflective Cords |  | Camping Lantern, Tarp
Shelter | Tarp | 42 | Silnylon, Cotton-Canvas, Ripstop-Polyester | 3 x 3 m, 3 x 4 m, 4 x 5 m | with Guy Lines, with Poles, for Hammocks | - | Tent Pegs, Hammock
Sleeping | Sleeping Bag | 88 | Down, Synthetic-Fill, Fleece | -5 °C, 5 °C, 12 °C | with Hood, for Summer, for Three Seasons | - | Sleeping Mat, Camping Pillow
Sleeping | Sleeping Mat | 54 | Self-Inflating, Closed-Cell Foam, Air | 3 cm, 5 cm, 10 cm | with Pump Sack, for Side Sleepers, for Backpacking | - | Camping Pillow, Sleeping Bag
Sleeping | Camping Pillow | 18 | Inflatable, Foam, Down | 30 x 20 cm, 45 x 30 cm | with Stuff Sack, with Soft Cover, for Backpacking | - | Headlamp, Sleeping Mat
Sleeping | Hammock | 48 | Parachute-Nylon, Cotton, Ripstop | Single, Double | with Tree Straps, with Mosquito Net, for Gardens | - | Tarp, Headlamp
Cooking | Camping Stove | 52 | Gas, Wood-Burning, Alcohol | 1 Burner, 2 Burners, 3 kW | with Wind Shield, with Piezo Ignition, for Backpacking |  | Gas Canister, Camping Cookset
Cooking | Gas Canister* | 8 | Isobutane, Butane, Propane Mix | 100 g, 230 g, 450 g | for Camping Stoves, for Cold Weather, with Screw Valve |  | Camping Cookset, Freeze-Dried Meal
Cooking | Camping Cookset | 39 | Titanium, Hard-Anodised, Stainless Steel | 1 Person, 2 Person, 4 Person | with Folding Handles, with Mugs, with Strainer Lid |  | Freeze-Dried Meal, Enamel Mug
Cooking | Freeze-Dried Meal* | 9 | Vegetarian, High-Protein, Gluten-Free | 120 g, 160 g, 2 Portions | for Trekking, for Summit Days, for Camp Breakfasts | Chilli, Pasta, Porridge, Curry | Gas Canister, Enamel Mug
Cooking | Enamel Mug | 12 | Steel, Double-Walled, Speckled | 300 ml, 400 ml, Set of 2 | with Lid, with Rolled Rim, for Campfires | - | Camping Stove, Cool Box
Cooking | Cool Box | 76 | Rotomoulded, Foam-Insulated, Electric | 15 L, 25 L, 45 L | with Wheels, with Bottle Opener, for Picnics | - | Enamel Mug, Camping Stove
Lighting | Headlamp | 34 | Rechargeable, Sealed, Motion-Sensing | 200 Lumens, 400 Lumens, 800 Lumens | with Red Light, for Trail Running, for Night Fishing | - | Camping Lantern, Trekking Poles
Lighting | Camping Lantern | 31 | Rechargeable, Gas, Solar | 150 Lumens, 300 Lumens, 600 Lumens | with Hook, with Power Bank, for Tents | - | Headlamp, Sleeping Bag
Hiking | Hiking Backpack | 96 | Ripstop-Nylon, Waxed-Canvas, Recycled-Polyester | 20 L, 40 L, 65 L | with Rain Cover, with Hip Belt, for Day Hikes | - | Trekking Poles, Dry Bag
Hiking | Trekking Poles | 57 | Carbon, Aluminium, Cork-Grip | Pair, Folding Pair | with Flip Locks, with Snow Baskets, for Steep Descents | - | Hiking Backpack, Dry Bag
Hiking | Dry Bag | 16 | Welded-Vinyl, Silnylon, Recycled-Polyester | 5 L, 10 L, 30 L | with Shoulder Strap, with Clear Window, for Kayaking | - | Hiking Backpack, Dome Tent
"""


@dataclass(frozen=True)
class ProductType:
    """One kind of product.

    Attributes:
        department, subcategory, noun: its place in the category tree; the noun is its leaf.
        consumable: whether it is used up (other style words fit).
        price: usual price.
        materials, sizes, features, variants: words that titles are made of; empty where the type has none.
        following: nouns of the types that are often bought next, the likeliest first.
    """

    department: str
    subcategory: str
    noun: str
    consumable: bool
    price: float
    materials: tuple[str, ...]
    sizes: tuple[str, ...]
    features: tuple[str, ...]
    variants: tuple[str, ...]
    following: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(", ") if word.strip())


@lru_cache(maxsize=1)
def product_types() -> tuple[tuple[ProductType, ...], dict[str, tuple[str, ...]]]:
    """All product types, and the brands of each department.

    >>> types, brands = product_types()
    >>> types[0].noun, types[0].following, len(brands)
    ('Watering Can', ('Plant Food', 'Plant Pot'), 12)
    """
    types: list[ProductType] = []
    brands: dict[str, tuple[str, ...]] = {}
    department = ""
    for line in SHOP.strip().splitlines():
        if line.startswith("# "):
            department, _, names = line[2:].partition(": ")
            brands[department] = _words(names)
            continue
        subcategory, noun, price, materials, sizes, features, variants, following = (cell.strip() for cell in line.split("|"))
        types.append(
            ProductType(
                department=department, subcategory=subcategory, noun=noun.rstrip("*"), consumable=noun.endswith("*"), price=float(price),
                materials=_words(materials), sizes=_words(sizes), features=_words(features),
                variants=COLOURS if variants == "-" else _words(variants), following=_words(following),
            )
        )
    return tuple(types), brands


def style_words(kind: ProductType, style: str) -> tuple[str, ...]:
    """Words by which a product type says its style."""
    default = CONSUMABLE_WORDS if kind.consumable else STYLE_WORDS
    return DEPARTMENT_WORDS.get(kind.department, {}).get(style, default[style])

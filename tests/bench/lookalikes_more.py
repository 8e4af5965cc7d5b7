"""More kinds of images that look alike and are no copies of each other, for lookalikes.py.

Each kind first draws a template from the seed (sizes, colours, places, what all have), then the images, each with contents of its own.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SYLLABLES = "ba co di fu ga he ji ko la me ni op pa qui re so ta um ve wo xe yo za tri ste blo".split()


def font(size):
    return ImageFont.load_default(int(size))


def word(rng):
    return "".join(SYLLABLES[i] for i in rng.integers(0, len(SYLLABLES), int(rng.integers(2, 5))))


def words(rng, count):
    return " ".join(word(rng) for _ in range(int(count)))


def colour(rng, value=(0.3, 0.95), saturation=(0.2, 0.9)):
    hsv = (rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return tuple(int(255 * v) for v in colorsys.hsv_to_rgb(*hsv))


def pale(rng):
    return colour(rng, (0.93, 1.0), (0.0, 0.08))


def picture(rng, width, height):
    """A picture of its own: clouds of colour, shapes, grain."""
    small = rng.random((int(rng.integers(3, 9)), int(rng.integers(3, 9)), 3)) * 255
    image = Image.fromarray(small.astype("uint8")).resize((width, height), Image.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(5, 25))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(8, max(9, width // 3), 2)
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)([x, y, x + w, y + h], fill=colour(rng))
    grain = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype("uint8"))


def slide(layout):
    width, height = 960, int(layout.choice([540, 720]))
    back, bar = pale(layout), colour(layout, (0.3, 0.7))
    side, logo, mark, name = layout.random() < 0.5, colour(layout), int(layout.integers(30, 70)), words(layout, 2).title()

    def one(rng, index):
        page = Image.new("RGB", (width, height), back)
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, 40, height] if side else [0, 0, width, 26], fill=bar)
        draw.rectangle([0, height - 34, width, height], fill=bar)
        draw.ellipse([width - mark - 20, 40, width - 20, 40 + mark], fill=logo)
        draw.text((60, height - 28), name, font=font(18), fill="white")
        draw.text((width - 60, height - 28), str(index + 1), font=font(18), fill="white")
        draw.text((70, 50), words(rng, rng.integers(2, 4)).title(), font=font(40), fill=(30, 30, 30))
        for line in range(int(rng.integers(3, 7))):
            draw.ellipse([80, 148 + 56 * line, 90, 158 + 56 * line], fill=bar)
            draw.text((110, 138 + 56 * line), words(rng, rng.integers(3, 7)), font=font(26), fill=(50, 50, 50))
        return page

    return one


def app(layout):
    """Cards in a grid under a bar, dark or light."""
    dark = layout.random() < 0.5
    back, card, ink = ((24, 26, 30), (44, 48, 56), (220, 220, 220)) if dark else ((238, 240, 243), (255, 255, 255), (40, 40, 40))
    accent, across, down = colour(layout), int(layout.integers(2, 5)), int(layout.integers(2, 4))
    menu = [word(layout).title() for _ in range(6)]
    width, height = int(layout.choice([1024, 1280])), int(layout.choice([640, 768]))

    def one(rng, index):
        page = Image.new("RGB", (width, height), back)
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, width, 56], fill=accent)
        for place, name in enumerate(menu):
            draw.text((24 + 130 * place, 16), name, font=font(20), fill="white")
        w, h = (width - 40) // across, (height - 110) // down
        for at in range(across * down):
            x, y = 20 + at % across * w, 80 + at // across * h
            draw.rounded_rectangle([x + 8, y + 8, x + w - 8, y + h - 8], 10, fill=card)
            draw.text((x + 22, y + 20), words(rng, 2).title(), font=font(20), fill=ink)
            draw.text((x + 22, y + 50), f"{rng.integers(0, 99999):,}", font=font(34), fill=accent)
            for line in range(max(0, (h - 120) // 24)):
                draw.text((x + 22, y + 100 + 24 * line), words(rng, max(1, w // 110)), font=font(14), fill=ink)
        return page

    return one


def table(layout):
    columns, rows = int(layout.integers(4, 9)), int(layout.integers(14, 30))
    heads = [word(layout).title() for _ in range(columns)]
    tint, striped = colour(layout, (0.5, 0.8)), layout.random() < 0.5

    def one(rng, index):
        page = Image.new("RGB", (900, 44 + 26 * rows), "white")
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, 900, 40], fill=tint)
        step = 900 // columns
        for column, head in enumerate(heads):
            draw.text((8 + step * column, 10), head, font=font(17), fill="white")
        for row in range(rows):
            top = 42 + 26 * row
            draw.rectangle([0, top, 900, top + 25], fill=(240, 243, 247) if striped and row % 2 else "white", outline=(222, 222, 222))
            for column in range(columns):
                value = word(rng) if column == 0 else f"{rng.integers(0, 10 ** int(rng.integers(1, 6)))}"
                draw.text((8 + step * column, top + 5), value, font=font(14), fill=(40, 40, 40))
        return page

    return one


def pie(layout):
    title, names = words(layout, 3).title(), [word(layout).title() for _ in range(5)]
    tints = [colour(layout) for _ in range(5)]

    def one(rng, index):
        page = Image.new("RGB", (640, 480), "white")
        draw = ImageDraw.Draw(page)
        draw.text((180, 16), title, font=font(24), fill=(40, 40, 40))
        shares = rng.dirichlet(np.ones(5)) * 360
        start = -90.0
        for place, (share, tint, name) in enumerate(zip(shares, tints, names)):
            draw.pieslice([60, 80, 400, 420], start, start + share, fill=tint, outline="white")
            draw.rectangle([450, 120 + 50 * place, 474, 144 + 50 * place], fill=tint)
            draw.text((486, 122 + 50 * place), name, font=font(18), fill=(60, 60, 60))
            start += share
        return page

    return one


def scatter(layout):
    tint, title, grid = colour(layout), words(layout, 3).title(), int(layout.integers(40, 80))

    def one(rng, index):
        page = Image.new("RGB", (600, 500), "white")
        draw = ImageDraw.Draw(page)
        for x in range(60, 580, grid):
            draw.line([x, 50, x, 450], fill=(230, 230, 230))
        for y in range(50, 450, grid):
            draw.line([60, y, 580, y], fill=(230, 230, 230))
        draw.line([60, 50, 60, 450, 580, 450], fill=(60, 60, 60), width=2)
        draw.text((200, 14), title, font=font(22), fill=(40, 40, 40))
        slope, spread = rng.uniform(-1, 1), rng.uniform(10, 80)
        for _ in range(int(rng.integers(30, 120))):
            x = rng.uniform(70, 570)
            y = 250 + slope * (x - 320) * 0.6 + rng.normal(0, spread)
            if 55 < y < 445:
                draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=tint)
        return page

    return one


def lines(layout):
    tints, title = [colour(layout) for _ in range(3)], words(layout, 2).title()

    def one(rng, index):
        page = Image.new("RGB", (720, 440), "white")
        draw = ImageDraw.Draw(page)
        for row in range(6):
            draw.line([60, 60 + 64 * row, 690, 60 + 64 * row], fill=(225, 225, 225))
            draw.text((20, 52 + 64 * row), str(100 - 20 * row), font=font(14), fill=(90, 90, 90))
        draw.text((280, 14), title, font=font(24), fill=(40, 40, 40))
        for tint in tints:
            walk = np.cumsum(rng.normal(0, 1, 40))
            walk = 80 + 280 * (walk - walk.min()) / (np.ptp(walk) + 1e-6) * rng.uniform(0.4, 1)
            draw.line(list(zip(np.linspace(60, 690, 40).tolist(), walk.tolist())), fill=tint, width=3)
        return page

    return one


def town(layout):
    """Streets, water and parks in one style."""
    land, street, water, park = (242, 239, 233), (255, 255, 255), (170, 211, 223), (200, 225, 180)

    def one(rng, index):
        page = Image.new("RGB", (640, 640), land)
        draw = ImageDraw.Draw(page)
        for _ in range(int(rng.integers(1, 5))):
            x, y = rng.integers(0, 640, 2)
            draw.polygon([(x + rng.integers(-140, 140), y + rng.integers(-140, 140)) for _ in range(6)], fill=park)
        x = np.linspace(0, 640, 12)
        y = 320 + 200 * np.sin(x / rng.uniform(80, 300) + rng.uniform(0, 6)) + rng.uniform(-150, 150)
        draw.line(list(zip(x.tolist(), y.tolist())), fill=water, width=int(rng.integers(20, 60)))
        turn = rng.uniform(0, 1.5)
        for direction in (turn, turn + np.pi / 2):
            off = -500.0
            while off < 500:
                off += rng.uniform(35, 110)
                cx, cy = 320 - off * np.sin(direction), 320 + off * np.cos(direction)
                dx, dy = 600 * np.cos(direction), 600 * np.sin(direction)
                wide = int(rng.choice([5, 8, 14]))
                draw.line([cx - dx, cy - dy, cx + dx, cy + dy], fill=(200, 195, 185), width=wide + 2)
                draw.line([cx - dx, cy - dy, cx + dx, cy + dy], fill=street, width=wide)
        for _ in range(12):
            draw.text(tuple(rng.integers(20, 560, 2)), word(rng).title(), font=font(14), fill=(80, 80, 80))
        draw.rectangle([8, 590, 160, 632], fill="white")
        draw.line([20, 620, 140, 620], fill="black", width=3)
        draw.text((20, 596), "500 m", font=font(16), fill="black")
        return page

    return one


def code(layout):
    """Square codes with finders in three corners."""
    size = int(layout.choice([21, 25, 29, 33]))

    def one(rng, index):
        cells = rng.random((size, size)) < 0.5
        for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):
            cells[max(0, top - 1) : top + 8, max(0, left - 1) : left + 8] = False
            cells[top : top + 7, left : left + 7] = True
            cells[top + 1 : top + 6, left + 1 : left + 6] = False
            cells[top + 2 : top + 5, left + 2 : left + 5] = True
        plain = Image.fromarray(np.where(np.pad(cells, 4), 0, 255).astype("uint8"))
        return plain.resize((10 * (size + 8), 10 * (size + 8)), Image.NEAREST).convert("RGB")

    return one


def barcode(layout):
    height, bars = int(layout.integers(160, 260)), int(layout.integers(40, 60))

    def one(rng, index):
        widths = rng.choice([2, 4, 6, 8], 2 * bars)
        page = Image.new("RGB", (80 + 10 * bars, height + 80), "white")
        draw = ImageDraw.Draw(page)
        x = 40
        for place, width in enumerate(widths):
            if place % 2 == 0:
                draw.rectangle([x, 20, x + int(width) - 1, 20 + height], fill="black")
            x += int(width)
        draw.text((60, height + 30), " ".join(str(d) for d in rng.integers(0, 10, 13)), font=font(26), fill="black")
        return page

    return one


def product(layout):
    """One thing on white, in other colours and patterns of its print."""
    form, width, height = int(layout.integers(0, 3)), int(layout.integers(200, 320)), int(layout.integers(280, 420))

    def one(rng, index):
        page = Image.new("RGB", (500, 500), "white")
        x, y = (500 - width) // 2, (500 - height) // 2
        mask = Image.new("L", (500, 500), 0)
        shape = ImageDraw.Draw(mask)
        if form == 0:
            shape.rounded_rectangle([x, y + 60, x + width, y + height], 30, fill=255)
            shape.rectangle([x + width // 3, y, x + 2 * width // 3, y + 70], fill=255)
        elif form == 1:
            shape.rounded_rectangle([x, y, x + width, y + height], 24, fill=255)
        else:
            shape.ellipse([x, y, x + width, y + height], fill=255)
        body = Image.new("RGB", (500, 500), colour(rng))
        draw = ImageDraw.Draw(body)
        kind = int(rng.integers(0, 4))
        tint, step = colour(rng), int(rng.integers(14, 60))
        for at in range(0, 500, step):
            if kind == 0:
                draw.rectangle([at, 0, at + step // 2, 500], fill=tint)
            elif kind == 1:
                draw.rectangle([0, at, 500, at + step // 2], fill=tint)
            elif kind == 2:
                for other in range(0, 500, step):
                    draw.ellipse([at, other, at + step // 2, other + step // 2], fill=tint)
        draw.text((x + 30, y + height // 2), word(rng).title(), font=font(44), fill="white", stroke_width=2, stroke_fill="black")
        page.paste(body, (0, 0), mask)
        return page

    return one


def frame(layout):
    """One place, and another thing or person in it each time."""
    place = picture(layout, 640, 400).filter(ImageFilter.GaussianBlur(1))

    def one(rng, index):
        page = place.copy()
        draw = ImageDraw.Draw(page)
        x, y, tall = int(rng.integers(60, 500)), int(rng.integers(90, 180)), int(rng.integers(150, 240))
        skin, coat, legs = colour(rng, (0.5, 0.9), (0.2, 0.5)), colour(rng), colour(rng, (0.1, 0.5))
        wide = tall // 3
        if rng.random() < 0.6:
            draw.rectangle([x, y + tall // 2, x + wide, y + tall], fill=legs)
            draw.rounded_rectangle([x - 10, y + tall // 5, x + wide + 10, y + tall // 2 + 20], 12, fill=coat)
            draw.ellipse([x + wide // 5, y - 10, x + 4 * wide // 5, y + tall // 4], fill=skin)
        else:
            page.paste(picture(rng, tall, wide * 2), (x, y))
        grain = rng.normal(0, 3, (400, 640, 1))
        return Image.fromarray(np.clip(np.asarray(page) + grain, 0, 255).astype("uint8"))

    return one


def blank(layout):
    """Paper with nothing on it, in shades that differ."""

    def one(rng, index):
        level = 250 - 4.5 * index
        tint = np.array([level, level - 14 * (index % 2), level - 18 * (index % 3)])
        return Image.fromarray(np.clip(tint + rng.normal(0, 1, (300, 400, 1)), 0, 255).astype("uint8"))

    return one


def vivid(layout):
    """Solid colours of one lightness."""

    def one(rng, index):
        return Image.new("RGB", (240, 240), tuple(int(255 * v) for v in colorsys.hsv_to_rgb(index / 30, 0.8, 0.7)))

    return one


def radial(layout):
    """Round gradients."""

    def one(rng, index):
        y, x = np.mgrid[0:240, 0:320]
        off = np.hypot(x - 160 - rng.uniform(-60, 60), y - 120 - rng.uniform(-40, 40))
        off = (off / off.max())[..., None]
        return Image.fromarray((np.array(colour(rng)) * (1 - off) + np.array(colour(rng)) * off).astype("uint8"))

    return one


def invoice(layout):
    name, tint, seat = words(layout, 2).title(), colour(layout, (0.3, 0.6)), words(layout, 4)

    def one(rng, index):
        page = Image.new("RGB", (700, 990), "white")
        draw = ImageDraw.Draw(page)
        draw.text((50, 40), name, font=font(34), fill=tint)
        draw.text((50, 84), seat, font=font(14), fill=(90, 90, 90))
        draw.text((520, 40), "INVOICE", font=font(30), fill=(60, 60, 60))
        draw.text((520, 84), f"No. {rng.integers(10000, 99999)}", font=font(16), fill=(60, 60, 60))
        for line in range(3):
            draw.text((50, 150 + 22 * line), words(rng, 3), font=font(16), fill=(30, 30, 30))
        draw.rectangle([50, 260, 650, 290], fill=tint)
        for row in range(int(rng.integers(4, 14))):
            draw.text((60, 304 + 34 * row), words(rng, rng.integers(2, 4)), font=font(16), fill=(30, 30, 30))
            draw.text((560, 304 + 34 * row), f"{rng.random() * 900:8.2f}", font=font(16), fill=(30, 30, 30))
            draw.line([50, 330 + 34 * row, 650, 330 + 34 * row], fill=(220, 220, 220))
        draw.text((50, 930), "Payable within thirty days. " + seat, font=font(14), fill=(90, 90, 90))
        return page

    return one


def chat(layout):
    mine, back = colour(layout, (0.7, 0.95)), pale(layout)

    def one(rng, index):
        page = Image.new("RGB", (480, 860), back)
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, 480, 70], fill=(40, 60, 80))
        draw.text((70, 22), word(rng).title(), font=font(24), fill="white")
        draw.ellipse([14, 12, 58, 56], fill=colour(rng))
        y = 90
        while y < 740:
            count, right = int(rng.integers(1, 4)), rng.random() < 0.5
            wide = int(rng.integers(140, 340))
            x = 460 - wide if right else 20
            draw.rounded_rectangle([x, y, x + wide, y + 16 + 24 * count], 14, fill=mine if right else "white")
            for line in range(count):
                draw.text((x + 12, y + 8 + 24 * line), words(rng, max(1, wide // 110)), font=font(16), fill=(30, 30, 30))
            y += 34 + 24 * count
        draw.rounded_rectangle([14, 790, 466, 840], 20, fill="white")
        return page

    return one


def sudoku(layout):
    def one(rng, index):
        page = Image.new("RGB", (460, 460), "white")
        draw = ImageDraw.Draw(page)
        for at in range(10):
            wide = 4 if at % 3 == 0 else 1
            draw.line([5 + 50 * at, 5, 5 + 50 * at, 455], fill="black", width=wide)
            draw.line([5, 5 + 50 * at, 455, 5 + 50 * at], fill="black", width=wide)
        for at in range(81):
            if rng.random() < 0.4:
                draw.text((20 + 50 * (at % 9), 12 + 50 * (at // 9)), str(rng.integers(1, 10)), font=font(32), fill="black")
        return page

    return one


def card(layout):
    """Cards of one team: a portrait, a name, a number."""
    back, bar, team = colour(layout, (0.6, 0.9)), colour(layout, (0.2, 0.5)), words(layout, 2).title()

    def one(rng, index):
        page = Image.new("RGB", (640, 400), back)
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, 640, 70], fill=bar)
        draw.text((30, 18), team, font=font(32), fill="white")
        page.paste(picture(rng, 190, 240), (30, 110))
        for row, name in enumerate(["Name", "Born", "Number"]):
            draw.text((250, 120 + 80 * row), name, font=font(16), fill=(60, 60, 60))
            value = words(rng, 2).title() if row == 0 else str(rng.integers(1, 100 if row == 2 else 2000))
            draw.text((250, 142 + 80 * row), value, font=font(28), fill=(20, 20, 20))
        return page

    return one


def source(layout):
    """Lines of code in an editor."""
    tints = [colour(layout, (0.7, 1.0)) for _ in range(4)]

    def one(rng, index):
        page = Image.new("RGB", (900, 640), (30, 32, 38))
        draw = ImageDraw.Draw(page)
        draw.rectangle([0, 0, 900, 36], fill=(50, 54, 62))
        draw.text((20, 8), word(rng) + ".py", font=font(18), fill=(220, 220, 220))
        depth = 0
        for line in range(26):
            draw.text((14, 48 + 22 * line), str(line + 1), font=font(14), fill=(110, 110, 110))
            depth = int(np.clip(depth + rng.integers(-1, 2), 0, 5))
            x = 60 + 32 * depth
            for _ in range(int(rng.integers(0, 6))):
                part = word(rng)
                draw.text((x, 48 + 22 * line), part, font=font(15), fill=tints[int(rng.integers(0, 4))])
                x += int(draw.textlength(part, font=font(15))) + 10
        return page

    return one


def camera(layout):
    """A fixed camera over a street: the same road, other cars, another time in the corner."""
    road = picture(layout, 704, 480).filter(ImageFilter.GaussianBlur(2))
    draw = ImageDraw.Draw(road)
    draw.polygon([(200, 480), (320, 120), (380, 120), (600, 480)], fill=(90, 90, 95))

    def one(rng, index):
        page = road.copy()
        draw = ImageDraw.Draw(page)
        for _ in range(int(rng.integers(1, 5))):
            y = int(rng.integers(160, 400))
            wide = (y - 80) // 3
            x = int(rng.integers(280, 420)) - wide // 2
            draw.rounded_rectangle([x, y, x + wide, y + wide // 2], 8, fill=colour(rng))
            draw.rectangle([x + wide // 5, y + 4, x + 4 * wide // 5, y + wide // 4], fill=(30, 40, 50))
        draw.text((12, 8), f"2026-03-{rng.integers(10, 30)} {rng.integers(10, 24)}:{rng.integers(10, 60)}", font=font(22), fill="white")
        return page

    return one


KINDS = {
    "slide": slide, "app": app, "table": table, "pie": pie, "scatter": scatter, "lines": lines, "town": town, "code": code,
    "barcode": barcode, "product": product, "frame": frame, "blank": blank, "vivid": vivid, "radial": radial, "invoice": invoice,
}
HELD_OUT = {"chat": chat, "sudoku": sudoku, "card": card, "source": source, "camera": camera}


def draw(folder, kinds, each, seed):
    """`each` images of each kind into a folder; every other one as JPEG."""
    for number, (kind, template) in enumerate(kinds.items()):
        one = template(np.random.default_rng([seed, 100 + number]))
        rng = np.random.default_rng([seed, 200 + number])
        for index in range(each):
            image = one(rng, index)
            if index % 2:
                image.save(folder / f"{kind}_{index:02}.jpg", quality=88)
            else:
                image.save(folder / f"{kind}_{index:02}.png")

"""The page of a test: its files, and its behavior in a browser that opens it from the file system."""

import json
import math
import re
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

from deeprftv2_plugin.evaluation.page import Cell, Table, files_of, save_images, saved_image, write_page

HOSTILE = "<img src=x onerror=\"document.title='changed'\"></script><script>document.title='changed'</script>$data"
BETTER = {'psnr': 'higher', 'lpips': 'lower'}
COLORS = {'blurry': (250, 0, 0), 'first': (0, 250, 0), 'second': (0, 0, 250), 'sharp': (250, 250, 250)}
"""The color of each version of an image, RGB."""


def one_color(version, size=(60, 80)):
    return np.full((*size, 3), COLORS[version][::-1], np.uint8)


def make_images(page, names, methods=('first', 'second')):
    """Write images of one color, whose scores improve with the index."""
    images = []
    for index, name in enumerate(names):
        save_images(files_of(page), name, [one_color('blurry'), one_color('first'), one_color('sharp')])
        image = saved_image(files_of(page), name, 'first', {'psnr': 20.0 + index, 'lpips': 0.5 + 0.01 * index})
        restored, scores = dict(image.restored), dict(image.scores)
        for method in methods[1:]:
            restored[method] = image.blurry.with_name('other.png')
            cv2.imwrite(str(restored[method]), one_color(method))
            scores[method] = {'psnr': 40.0 - index}
        images.append(image._replace(restored=restored, scores=scores))
    return images


def content(page):
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text('utf-8'), re.DOTALL
    )
    return json.loads(text)


TABLE = Table(
    ['network', 'psnr'],
    [[Cell('b'), Cell('9.5', 9.5)], [Cell('a'), Cell('10.25', 10.25)], [Cell(HOSTILE), Cell('nan', math.nan)]],
)


def test_the_page_only_refers_to_files_next_to_it(tmp_path):
    page = tmp_path / 'a b#%?' / 'café.html'
    write_page(page, HOSTILE, TABLE, make_images(page, ['x/1', HOSTILE]), BETTER, [HOSTILE])
    found = content(page)
    assert [image['name'] for image in found['images']] == ['x/1', HOSTILE]
    assert found['methods'] == ['first', 'second'] and found['notes'] == [HOSTILE]
    for image in found['images']:
        assert (image['width'], image['height']) == (80, 60)
        for url in (*image['versions'], image['thumbnail']):
            assert (page.parent / unquote(url)).is_file() and not url.startswith(('/', '.'))
    text = page.read_text('utf-8')
    assert '<img src=x' not in text and text.count('<script') == 2 and not re.search(r'\w+://', text)


def test_scores_need_not_be_finite(tmp_path):
    scores = {'psnr': math.inf, 'lpips': math.nan}
    save_images(files_of(tmp_path / 'a.html'), 'x', [one_color('blurry'), one_color('first')])
    image = saved_image(files_of(tmp_path / 'a.html'), 'x', 'first', scores)
    assert image.sharp is None
    write_page(tmp_path / 'a.html', 'Title', Table([], []), [image], BETTER)
    assert content(tmp_path / 'a.html')['images'][0]['scores'] == [['Infinity', 'NaN']]


def test_images_of_16_bit_are_shown_with_8(tmp_path):
    deep = np.full((4, 6, 3), 257 * 100, np.uint16)
    save_images(tmp_path, 'x', [deep, deep, deep])
    image = saved_image(tmp_path, 'x', 'first', {})
    for path in (image.blurry, image.sharp, *image.restored.values()):
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert found.dtype == np.uint8 and (found == 100).all()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page, which must not request other files or raise errors."""
    opened = []

    def open_page(path):
        page = browser.new_page(viewport={'width': 1000, 'height': 800})
        page.set_default_timeout(120_000)
        requests, errors = [], []
        page.on('request', lambda request: requests.append(request.url))
        page.on('pageerror', lambda error: errors.append(error))
        page.on('console', lambda message: errors.append(message.text) if message.type == 'error' else None)
        page.goto(path.as_uri())
        opened.append((path, page, requests, errors))
        return page

    yield open_page
    for path, page, requests, errors in opened:
        page.close()
        assert requests[0] == path.as_uri() and errors == []
        assert all(url.startswith(files_of(path).as_uri()) for url in requests[1:])


def colors(page, card, *places):
    """Return the versions visible in a screenshot at positions in an image, given as fractions of its width."""
    frame = page.locator('.frame').nth(card)
    frame.scroll_into_view_if_needed()
    page.wait_for_function(
        """index => [...document.querySelectorAll('.frame')[index].querySelectorAll('.pane img')]
            .every(image => image.hidden || (image.complete && image.naturalWidth))""",
        arg=card,
    )
    image = cv2.imdecode(np.frombuffer(frame.screenshot(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    pixels = [image[3 * image.shape[0] // 4, int(place * image.shape[1])] for place in places]
    return [min(COLORS, key=lambda name: np.abs(pixel - COLORS[name]).sum()) for pixel in pixels]


def names(page):
    return page.locator('h2').all_text_contents()


def test_the_slider_moves_between_any_two_versions(open_page, tmp_path):
    path = tmp_path / 'page.html'
    write_page(path, 'Title', TABLE, make_images(path, ['x', 'y']), BETTER)
    page = open_page(path)
    slider = page.get_by_label('Divider of x')
    assert colors(page, 0, 0.1, 0.4, 0.6, 0.9) == ['blurry', 'blurry', 'first', 'first']
    slider.fill('20')
    assert colors(page, 0, 0.1, 0.4, 0.6, 0.9) == ['blurry', 'first', 'first', 'first']
    slider.focus()
    for _ in range(3):
        page.keyboard.press('PageUp')
    assert colors(page, 0, 0.1, 0.3, 0.9) == ['blurry', 'blurry', 'first']
    assert colors(page, 1, 0.4, 0.6) == ['blurry', 'first']
    page.get_by_label('Left').select_option('second')
    page.get_by_label('Right').select_option('sharp')
    assert colors(page, 1, 0.4, 0.6) == ['second', 'sharp']
    box = page.locator('.frame').nth(1).bounding_box()
    middle = box['y'] + box['height'] / 2
    page.mouse.move(box['x'] + 0.5 * box['width'], middle)
    page.mouse.down()
    page.mouse.move(box['x'] + 0.8 * box['width'], middle)
    page.mouse.up()
    assert colors(page, 1, 0.4, 0.7, 0.9) == ['second', 'second', 'sharp']


def test_the_worst_images_are_first_and_the_order_can_be_changed(open_page, tmp_path):
    path = tmp_path / 'page.html'
    images = make_images(path, ['n2', 'n10', 'n1'])
    unknown = make_images(path, ['failed', 'odd'], ['first'])
    unknown[0] = unknown[0]._replace(scores={})
    unknown[1] = unknown[1]._replace(scores={'first': {'psnr': math.nan, 'lpips': math.inf}})
    write_page(path, 'Title', TABLE, [*images[::-1], *unknown], BETTER)
    page = open_page(path)
    assert names(page) == ['odd', 'n2', 'n10', 'n1', 'failed']
    order = page.get_by_label('Order')
    order.select_option('first lpips, worst first')
    assert names(page) == ['odd', 'n1', 'n10', 'n2', 'failed']
    order.select_option('second psnr, worst first')
    assert names(page) == ['n1', 'n10', 'n2', 'failed', 'odd']
    order.select_option('name')
    assert names(page) == ['failed', 'n1', 'n2', 'n10', 'odd']
    assert page.get_by_text('first: psnr not a number, lpips ∞').is_visible()


def test_the_table_is_sorted_by_any_column(open_page, tmp_path):
    path = tmp_path / 'page.html'
    write_page(path, 'Title', TABLE, make_images(path, ['x']), BETTER)
    page = open_page(path)

    def rows():
        return page.locator('tbody tr td:first-child').all_text_contents()

    assert rows() == ['b', 'a', HOSTILE]
    page.get_by_role('button', name='psnr').click()
    assert rows() == ['b', 'a', HOSTILE]
    page.get_by_role('button', name='psnr').click()
    assert rows() == [HOSTILE, 'a', 'b']
    assert page.get_by_role('columnheader', name='psnr').get_attribute('aria-sort') == 'descending'
    page.get_by_role('button', name='network').press('Enter')
    assert rows() == [HOSTILE, 'a', 'b']


def test_all_images_share_zoom_and_position(open_page, tmp_path):
    path = tmp_path / 'page.html'
    write_page(path, 'Title', TABLE, make_images(path, ['x', 'y']), BETTER)
    page = open_page(path)

    def transforms():
        return page.evaluate(
            "[...document.querySelectorAll('.pane img')].map(each => getComputedStyle(each).transform)"
        )

    def scale():
        (found,) = set(transforms())
        return float(re.match(r'matrix\((.*?),', found)[1])

    assert scale() == 1
    page.get_by_role('slider', name='Zoom').fill('2')
    assert scale() == 4
    before = transforms()
    frame = page.locator('.frame').first
    frame.focus()
    page.keyboard.press('ArrowRight')
    moved = transforms()
    assert moved != before and len(set(moved)) == 1
    box = frame.bounding_box()
    page.mouse.move(box['x'] + 100, box['y'] + 50)
    page.mouse.down()
    page.mouse.move(box['x'] + 60, box['y'] + 20)
    page.mouse.up()
    assert transforms() != moved and len(set(transforms())) == 1
    page.keyboard.press('+')
    assert scale() == pytest.approx(4 * 2**0.5, rel=1e-3)
    page.get_by_role('button', name='Reset').click()
    assert scale() == 1
    frame.dblclick(position={'x': 1, 'y': 1})
    (found,) = set(transforms())
    assert [float(each) for each in re.findall(r'[-.\d]+', found)] == pytest.approx([4, 0, 0, 4, -3, -3], abs=0.5)


def test_names_are_not_interpreted_as_html(open_page, tmp_path):
    path = tmp_path / 'page.html'
    image = make_images(path, [HOSTILE])[0]
    image = image._replace(restored={HOSTILE: image.restored['first']}, scores={HOSTILE: {HOSTILE: 1.0}})
    write_page(path, HOSTILE, TABLE, [image], {HOSTILE: 'higher'}, [HOSTILE])
    page = open_page(path)
    assert page.title() == HOSTILE and names(page) == [HOSTILE]
    assert page.locator('h1').text_content() == HOSTILE
    assert page.locator('.scores').text_content() == f'{HOSTILE} 1.0000'
    assert page.locator('script').count() == 2 and page.locator('img').count() == 3
    assert colors(page, 0, 0.1, 0.9) == ['blurry', 'first']


def test_only_images_near_the_visible_part_are_loaded(open_page, tmp_path):
    path = tmp_path / 'page.html'
    (image,) = make_images(path, ['x'], ['first'])
    write_page(path, 'Title', TABLE, [image._replace(name=str(index)) for index in range(300)], BETTER)
    page = open_page(path)
    assert colors(page, 0, 0.1, 0.9) == ['blurry', 'first']

    def loaded():
        return page.locator('.pane img[src]').count()

    assert 2 <= loaded() < 60
    assert colors(page, 299, 0.1, 0.9) == ['blurry', 'first']
    page.wait_for_function("!document.querySelector('.pane img').hasAttribute('src')")
    assert 2 <= loaded() < 60


def test_versions_can_be_missing(open_page, tmp_path):
    path = tmp_path / 'page.html'
    save_images(files_of(path), 'x', [one_color('blurry'), one_color('first')])
    write_page(
        path, 'Title', Table(['sequence'], [[Cell('overall')]]), [saved_image(files_of(path), 'x', 'first', {})], {}
    )
    page = open_page(path)
    assert colors(page, 0, 0.1, 0.9) == ['blurry', 'first']
    assert page.get_by_label('Right').locator('option').all_text_contents() == ['blurry', 'first']
    assert page.get_by_label('Order').locator('option').all_text_contents() == ['name']

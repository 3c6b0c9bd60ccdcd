"""Plays the tutorial's flip in the panel with headless Chromium, under load: browser.py AXE [PICTURES].

AXE is the file of axe-core, PICTURES the directory for screenshots, if any are to be taken. The panel is at 127.0.0.1:8080,
the public site at 127.0.0.1:80, and the sides are in /srv. Prints one line of JSON."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

AXE = open(sys.argv[1]).read()
PICTURES = sys.argv[2] if len(sys.argv) > 2 else None
PANEL = "http://127.0.0.1:8080"
HISTORY = "/srv/{}/html/.bluegreen/history.jsonl"
CONFIG = "/test/promote.toml"
# A canary and a drain. A longer one makes a better picture.
CANARY = """
[canary]
steps = [{{ weight = 30, for = "{}" }}]
""".format("12s" if PICTURES else "2s")
# Records if an update replaces the button: a click between press and release would be lost.
WATCH_BUTTON = """
const find = () => document.getElementById("cancel-job"), button = find();
new MutationObserver(() => {
  const step = document.querySelector(".steps .now")?.textContent ?? "";
  window.isReplaced ||= find() !== button && /Canary|Switch|Watch/.test(step);
}).observe(document.body, { childList: true, subtree: true });
"""
stop = threading.Event()
figures = {"requests": 0, "failed": 0, "failures": []}


def load(pause):
    """Visits the public site with new connections, and counts responses that are not 200."""
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise OSError(f"status {response.status}")
            figures["requests"] += 1
        except (OSError, http.client.HTTPException) as error:
            figures["failed"] += 1
            figures["failures"].append(repr(error))
        finally:
            connection.close()
        stop.wait(pause)


def public_side():
    return request("/")


def request(path):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=120)
    connection.request("GET", path)
    side = connection.getresponse().read().decode()
    connection.close()
    return side


def promotions(side):
    try:
        return sum('"action":"promote"' in line for line in open(HISTORY.format(side)))
    except FileNotFoundError:
        return 0


def browser(width=1200, height=1000):
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu"]:
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    driver = webdriver.Chrome(options=options)
    driver.set_script_timeout(60)
    return driver


def wait(condition, what, seconds=60):
    """Waits until a condition holds, and returns the time at which it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return time.monotonic()
        except Exception:  # A part of the page was being replaced.
            pass
        time.sleep(0.01)
    raise SystemExit(f"the page never showed: {what}")


def text(driver, selector):
    return driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def count(driver, selector):
    return driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def is_public(driver, side):
    return count(driver, f"#side-{side} .badge.on") == 1


def open_overview(driver):
    driver.get(PANEL + "/")
    wait(lambda: count(driver, "#side-blue dl") > 0 and count(driver, "#side-green dl") > 0, "both sides")


def check_accessibility(driver, where):
    """Fails with what axe-core finds."""
    driver.execute_script(AXE)
    found = driver.execute_async_script("axe.run(document).then(arguments[0])")
    problems = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
    if problems:
        raise SystemExit(f"axe-core at {where}: {problems}")
    figures["axe"] = figures.get("axe", 0) + 1


def check_size(driver):
    """Everything that the page loads comes from the panel, and is small."""
    loaded = driver.execute_script(
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((entry) => [entry.name, entry.transferSize])"
    )
    foreign = [name for name, _ in loaded if not name.startswith(PANEL)]
    figures["bytes"] = sum(size for _, size in loaded)
    if foreign or not 1000 < figures["bytes"] < 50_000:
        raise SystemExit(f"the page loads {loaded}")


def prefer(driver, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def picture(driver, name, width, height):
    if PICTURES is None:
        return
    driver.set_window_size(width, height)
    driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    time.sleep(0.3)
    driver.save_screenshot(os.path.join(PICTURES, name + ".png"))
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def press_until_focused(driver, element):
    """Reaches an element with the keyboard alone."""
    for _ in range(60):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        if driver.execute_script("return document.activeElement.id") == element:
            return ActionChains(driver).send_keys(Keys.ENTER).perform()
    raise SystemExit(f"the keyboard does not reach {element}")


def confirm(driver, side):
    """Clicks on the button, and confirms."""
    driver.execute_script("arguments[0].click()", driver.find_element(By.ID, f"promote-{side}"))
    wait(lambda: count(driver, "#confirm") == 1, "the confirmation")
    driver.find_element(By.ID, "confirm").click()


def has_step(driver, name):
    """True if a step of the promotion runs, or is done."""
    script = "return [...document.querySelectorAll('.steps .now, .steps .done')].map((step) => step.textContent)"
    return name in driver.execute_script(script)


def flip(driver, side):
    """Promotes, and measures how long after the events the page shows them."""
    before = promotions(side)
    confirm(driver, side)
    times = {}

    def follow():
        times["flip"] = wait(lambda: public_side() == side, "the flip")
        times["end"] = wait(lambda: promotions(side) > before, "the end")

    events = threading.Thread(target=follow, daemon=True)
    events.start()
    seen_watch = wait(lambda: has_step(driver, "Watch"), "the watch")
    seen_side = wait(lambda: is_public(driver, side), "the public side")
    wait(lambda: count(driver, f"#chart circle.{side}") > 3, "the chart")
    seen_end = wait(lambda: "Succeeded" in text(driver, "#activity .badge"), "the end")
    events.join()
    lag = {"watch": seen_watch - times["flip"], "side": seen_side - times["flip"], "end": seen_end - times["end"]}
    best = figures.setdefault("lag", {})
    for name, seconds in lag.items():
        best[name] = round(min(best.get(name, 99), max(seconds, 0)), 2)


def flip_with_canary_and_drain(driver):
    """Promotes green with the keyboard, while a request is in flight at blue."""
    config = open(CONFIG).read()
    open(CONFIG, "w").write(config.replace("switch =", 'drain = "10m"\nswitch =') + CANARY)
    threading.Thread(target=request, args=("/slow/100",), daemon=True).start()
    by_keyboard(driver, "green")
    wait(lambda: has_step(driver, "Canary 30%"), "the canary")
    driver.execute_script(WATCH_BUTTON)
    wait(lambda: has_step(driver, "Watch"), "the watch")
    for side in ["blue", "green"]:
        wait(lambda: count(driver, f"#chart circle.{side}") > 0, f"the responses of {side} in the chart")
        wait(lambda: side in text(driver, ".figures tbody"), f"the responses of {side}")
    check_accessibility(driver, "a promotion")
    wait(lambda: "Draining blue: 1 request in flight" in text(driver, "#activity .waiting"), "the request in flight")
    picture(driver, "panel-wide-light", 1000, 1060)
    assert not driver.execute_script("return window.isReplaced"), "an update has replaced the button"
    driver.find_element(By.ID, "cancel-job").click()
    wait(lambda: count(driver, "#confirm") == 1, "the confirmation")
    driver.find_element(By.ID, "confirm").click()
    wait(lambda: "green is public instead of blue" in text(driver, "#activity .outcome"), "the end")
    open(CONFIG, "w").write(config)


def by_keyboard(driver, side):
    driver.find_element(By.TAG_NAME, "body").click()
    press_until_focused(driver, f"promote-{side}")
    wait(lambda: count(driver, "#confirm") == 1, "the confirmation")
    check_accessibility(driver, "the confirmation")
    press_until_focused(driver, "confirm")


def flips(driver):
    """Flips with the mouse, and again while the machine is too busy for a fast response."""
    side, other = "blue", "green"
    for number in range(5):
        flip(driver, side)
        side, other = other, side
        if max(figures["lag"].values()) < 1:
            break
    figures["flips"] = number + 1
    return side


def terminal(*command):
    """Starts the program in a terminal."""
    command = ["bluegreen", *command, "--config", CONFIG]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def see_the_same(drivers, side):
    """Two browsers and a terminal show the same public side, activity, and history."""
    printed = terminal("public").communicate()[0]
    if not any(line.split()[:3] == [side, side, "yes"] for line in printed.splitlines()):
        raise SystemExit(f"the terminal does not report {side}: {printed}")
    for driver in drivers:
        wait(lambda: is_public(driver, side), f"{side} in the state that the terminal reports")
    # Ages are formatted at different times.
    for selector in ["#side-blue header", "#side-green header", "#promotion", "#activity", "#history td:nth-child(n+2)"]:
        script = "return [...document.querySelectorAll(arguments[0])].map((part) => part.textContent)"
        shown = lambda: [driver.execute_script(script, selector) for driver in drivers]
        wait(lambda: shown()[0] == shown()[1] != [], f"the same {selector} in both browsers")
    newest = json.loads(open(HISTORY.format(side)).readlines()[-1])
    words = f"{newest['promotion']['requests']} requests, {newest['promotion']['failures']} failed"
    wait(lambda: words in text(drivers[0], "#history tbody tr"), f"{words} in the history")


def look_at_dark_and_narrow(driver):
    prefer(driver, "dark")
    check_accessibility(driver, "the dark overview")
    picture(driver, "panel-wide-dark", 1000, 960)
    picture(driver, "panel-narrow-dark", 390, 1300)
    prefer(driver, "light")
    picture(driver, "panel-narrow-light", 390, 1300)
    driver.set_window_size(390, 1000)
    wide = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        raise SystemExit(f"a narrow window scrolls sideways by {wide} pixels")


def main():
    visitors = [threading.Thread(target=load, args=(pause,), daemon=True) for pause in (0.02, 0.03, 0.05)]
    for visitor in visitors:
        visitor.start()
    drivers = first, second = [browser(), browser()]
    for driver in drivers:
        prefer(driver, "light")
        open_overview(driver)
    check_size(first)
    check_accessibility(first, "the overview")
    flip_with_canary_and_drain(first)
    side = flips(first)
    other = "green" if side == "blue" else "blue"
    see_the_same(drivers, other)
    check_accessibility(second, "the overview after a promotion")

    # Both browsers show what a terminal starts.
    promoting = terminal("promote", side, "--yes")
    for driver in drivers:
        wait(lambda: "promotion by" in text(driver, f"#side-{other}"), "the promotion of the terminal")
    printed = promoting.communicate()[0]
    assert promoting.returncode == 0, printed
    see_the_same(drivers, side)
    look_at_dark_and_narrow(second)

    # A browser that is closed in the middle changes nothing, and the other one shows the end.
    before = promotions(other)
    confirm(first, other)
    wait(lambda: public_side() == other, "the flip")
    assert promotions(other) == before, "the promotion had ended before the browser was closed"
    first.quit()
    wait(lambda: promotions(other) > before, "the end")
    wait(lambda: f"{other} is public instead of {side}" in text(second, "#activity .outcome"), "the end")
    assert public_side() == other
    second.quit()
    stop.set()
    for visitor in visitors:
        visitor.join()
    print(json.dumps(figures))


main()

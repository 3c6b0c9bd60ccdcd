"""Plays the tutorial's flip in the panel with headless Chromium, under load: browser.py AXE PICTURES.

AXE is the file of axe-core, PICTURES the directory for the screenshots. The panel is at 127.0.0.1:8080, the public site at
127.0.0.1:80, and the sides are in /srv. Prints one line of JSON."""

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
PICTURES = sys.argv[2]
PANEL = "http://127.0.0.1:8080"
HISTORY = "/srv/{}/html/.bluegreen/history.jsonl"
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
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
    connection.request("GET", "/")
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


def wait(condition, what, seconds=30):
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
    driver.set_window_size(width, height)
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


def flip(driver, side, begin):
    """Promotes, and measures how long after the events the page shows them."""
    before = promotions(side)
    begin(driver, side)
    times = {}

    def follow():
        times["flip"] = wait(lambda: public_side() == side, "the flip")
        times["end"] = wait(lambda: promotions(side) > before, "the end", 60)

    events = threading.Thread(target=follow, daemon=True)
    events.start()
    seen_watch = wait(lambda: "Watch" in text(driver, ".steps .now, .steps .done:nth-child(5)"), "the watch")
    seen_side = wait(lambda: is_public(driver, side), "the public side")
    wait(lambda: count(driver, "#chart circle.ok") > 3, "the chart")
    figures.setdefault("charts", []).append(count(driver, "#chart circle"))
    during(driver)
    seen_end = wait(lambda: "Succeeded" in text(driver, "#activity .badge"), "the end", 60)
    events.join()
    lag = {"watch": seen_watch - times["flip"], "side": seen_side - times["flip"], "end": seen_end - times["end"]}
    for name, seconds in lag.items():
        best = figures.setdefault("lag", {})
        best[name] = round(min(best.get(name, 99), max(seconds, 0)), 2)


def during(driver):
    """What is looked at once, in the middle of the first promotion."""
    if "during" in figures:
        return
    figures["during"] = True
    check_accessibility(driver, "a promotion")
    picture(driver, "panel-wide-light", 1000, 960)


def by_keyboard(driver, side):
    driver.find_element(By.TAG_NAME, "body").click()
    press_until_focused(driver, f"promote-{side}")
    wait(lambda: count(driver, "#confirm") == 1, "the confirmation")
    check_accessibility(driver, "the confirmation")
    press_until_focused(driver, "confirm")


def main():
    visitors = [threading.Thread(target=load, args=(pause,), daemon=True) for pause in (0.02, 0.03, 0.05)]
    for visitor in visitors:
        visitor.start()
    driver = browser()
    open_overview(driver)
    check_size(driver)
    check_accessibility(driver, "the overview")
    prefer(driver, "light")
    flip(driver, "green", by_keyboard)
    flip(driver, "blue", confirm)
    flip(driver, "green", confirm)
    open_overview(driver)
    check_accessibility(driver, "the overview after a promotion")
    prefer(driver, "dark")
    check_accessibility(driver, "the dark overview")
    picture(driver, "panel-wide-dark", 1000, 960)
    picture(driver, "panel-narrow-dark", 390, 1300)
    driver.set_window_size(390, 1000)
    wide = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        raise SystemExit(f"a narrow window scrolls sideways by {wide} pixels")

    # A browser that is closed in the middle changes nothing.
    before = promotions("blue")
    open_overview(driver)
    confirm(driver, "blue")
    wait(lambda: public_side() == "blue", "the flip")
    driver.quit()
    wait(lambda: promotions("blue") > before, "the end", 60)
    assert public_side() == "blue"

    # Two browsers and a terminal see the same.
    drivers = [browser(), browser()]
    for driver in drivers:
        prefer(driver, "light")
        open_overview(driver)
    terminal = subprocess.Popen(
        ["bluegreen", "promote", "green", "--yes", "--config", "/test/promote.toml"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for driver in drivers:
        wait(lambda: "a promotion by" in text(driver, "#side-blue"), "the promotion of the terminal")
    for driver in drivers:
        wait(lambda: is_public(driver, "green"), "the public side")
    printed = terminal.communicate()[0]
    assert terminal.returncode == 0, printed
    confirm(drivers[0], "blue")
    for driver in drivers:
        wait(lambda: "Switching to blue..." in text(driver, "#job-log"), "the output")
        wait(lambda: "blue is public, before it was green" in text(driver, "#activity"), "the end", 60)
        wait(lambda: count(driver, "#history tbody tr") >= 6, "the history")
    picture(drivers[0], "panel-narrow-light", 390, 1300)
    for driver in drivers:
        driver.quit()
    stop.set()
    for visitor in visitors:
        visitor.join()
    print(json.dumps(figures))


main()

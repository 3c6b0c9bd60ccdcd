"""Looks for every acknowledged row: verify.py PREFIX old|new|both."""

import json
import sys

import psycopg2

with open(f"/tmp/{sys.argv[1]}.json") as file:
    kept = json.load(file)
cursor = psycopg2.connect("").cursor()
for structure, query in {"old": "SELECT id, name FROM users", "new": "SELECT user_id, full_name FROM user_names"}.items():
    if sys.argv[2] in (structure, "both"):
        cursor.execute(query)
        rows = dict(cursor.fetchall())
        lost = [user for user, name in kept["names"].items() if rows.get(int(user)) != name]
        back = [user for user in kept["gone"] if user in rows]
        print(f"{structure}: {len(lost)} lost, {len(back)} back from the dead, {len(kept['names'])} there")

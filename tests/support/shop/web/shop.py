"""A shop: one table in PostgreSQL, over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg2
from flask import Flask, request

app = Flask(__name__)
_TABLE = "CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, what text NOT NULL)"


def _run(statement: str, *values: str) -> list[tuple[str, ...]]:
    secret = Path("/run/secrets/password")
    password = secret.read_text().strip() if secret.exists() else os.environ["DB_PASSWORD"]
    connection = psycopg2.connect(host=os.environ["DB_HOST"], user="postgres", password=password, connect_timeout=5)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(1)")
            cursor.execute(_TABLE)
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@app.get("/health")
def health() -> str:
    _run("SELECT 1")
    return "well\n"


@app.get("/version")
def version() -> str:
    return os.environ["VERSION"] + "\n"


@app.get("/orders")
def orders() -> str:
    return "".join(f"{what}\n" for (what,) in _run("SELECT what FROM orders ORDER BY id"))


@app.post("/orders")
def order() -> str:
    _run("INSERT INTO orders (what) VALUES (%s)", request.get_data(as_text=True))
    return "ordered\n"

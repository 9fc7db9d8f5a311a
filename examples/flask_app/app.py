"""A shop's order form. The button enqueues a job that writes the receipt; the order's page shows how far it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from flask import Flask, Response, abort, redirect, render_template, request, url_for

from jobmaster import JobMaster, JobStatus, StoreUnavailable, current_job
from jobmaster.web import JobMasterWeb

FOLDER = Path(os.environ.get("SHOP_FOLDER", Path(__file__).parent))
PRICES = {"Tea": Decimal("3.20"), "Coffee": Decimal("4.50"), "Cake": Decimal("5.90")}
MOST_PIECES = 100
ORDERS = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, customer TEXT NOT NULL, item TEXT NOT NULL, pieces INTEGER NOT NULL, receipt TEXT
)
"""

app = Flask(__name__)
jm = JobMaster("shop", master=f"sqlite:///{FOLDER}/jobmaster.db")

# For development: anybody on this machine may see the jobs. In production give a password or your own check instead.
JobMasterWeb(jm, auth=JobMasterWeb.OPEN).init_app(app, url_prefix="/jobs")


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """The shop's own database: orders and their receipts."""
    connection = sqlite3.connect(FOLDER / "shop.db", timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            connection.execute(ORDERS)
            yield connection
    finally:
        connection.close()


@jm.task(max_retries=5, timeout=30)
def write_receipt(order_id: int) -> str:
    """Runs in a worker. It may run twice after a crash, and then writes the same receipt again: no harm."""
    with database() as shop:
        order = shop.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        total = PRICES[order["item"]] * order["pieces"]
        receipt = (
            f"Receipt {order_id}\n\n"
            f"{order['pieces']} x {order['item']} at {PRICES[order['item']]}\n"
            f"Total {total}\n\n"
            f"Thank you, {order['customer']}.\n"
            f"(written by {current_job().worker}, attempt {current_job().attempt})"
        )
        shop.execute("UPDATE orders SET receipt = ? WHERE id = ?", (receipt, order_id))
    return f"{total}"


@app.get("/")
def form() -> str:
    with database() as shop:
        orders = shop.execute("SELECT * FROM orders ORDER BY id DESC LIMIT 10").fetchall()
    return render_template("form.html", prices=PRICES, orders=orders)


@app.post("/orders")
def place_order() -> Response:
    customer, item = request.form.get("customer", "").strip(), request.form.get("item", "")
    pieces = request.form.get("pieces", "")
    if not customer or item not in PRICES or not pieces.isdecimal() or not 1 <= int(pieces) <= MOST_PIECES:
        abort(400, f"An order has a name, an item of the list, and 1 to {MOST_PIECES} pieces.")
    with database() as shop:
        order_id = shop.execute(
            "INSERT INTO orders (customer, item, pieces) VALUES (?, ?, ?)", (customer, item, int(pieces))
        ).lastrowid
    ask_for_receipt(order_id)
    return redirect(url_for("order", order_id=order_id))


@app.get("/orders/<int:order_id>")
def order(order_id: int) -> str:
    with database() as shop:
        found = shop.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
    if found is None:
        abort(404)
    status = jm.result(job_id(order_id)).status
    return render_template("order.html", order=found, job_id=job_id(order_id), status=status, JobStatus=JobStatus)


@app.post("/orders/<int:order_id>/receipt")
def receipt_again(order_id: int) -> Response:
    """For an order whose receipt could not be asked for: the same id means the same job, so this never makes two."""
    ask_for_receipt(order_id)
    return redirect(url_for("order", order_id=order_id))


def ask_for_receipt(order_id: int) -> None:
    try:
        write_receipt.options(job_id=job_id(order_id)).delay(order_id)
    except StoreUnavailable:
        # The order stands; its page offers to ask again.
        app.logger.exception("no receipt for order %s yet", order_id)


def job_id(order_id: int) -> str:
    return f"receipt-{order_id}"

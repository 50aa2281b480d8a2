"""Flask (WSGI) with SyncBroker: start a count, look at it, stop it.

    orbit worker examples/counter.py --redis redis://localhost
    ORBIT_REDIS=redis://localhost flask --app examples/flask_app.py run
"""

import os

from flask import Flask, redirect, render_template_string, request, url_for
from werkzeug.wrappers import Response

from orbit import RequestError, SyncBroker

PAGE = """<!doctype html><title>Count</title>
<form method="post" action="{{ url_for('start') }}"><input name="total" value="10"><button>Count</button></form>
{% if error %}<p role="alert">{{ error }}</p>{% endif %}
{% if info %}
<h1>{{ info.status }}</h1>
<ol>{% for update in updates %}<li>{{ update.data }}</li>{% endfor %}</ol>
{% if info.over %}<p>Result: {{ info.result }}</p>
{% else %}<form method="post" action="{{ url_for('stop', tx=info.id) }}"><button>Stop</button></form>{% endif %}
{% endif %}"""


def create_app(broker: SyncBroker) -> Flask:
    """The application. One SyncBroker serves all threads; it connects at its first use, also after a fork."""
    app = Flask(__name__)

    @app.errorhandler(RequestError)
    def refused(error: RequestError) -> tuple[str, int]:
        return render_template_string(PAGE, error=error.message), 404 if error.code == "not_found" else 400

    @app.get("/")
    def ask() -> str:
        return render_template_string(PAGE)

    @app.post("/counts")
    def start() -> Response:
        total = request.form.get("total", 0, type=int)
        return redirect(url_for("show", tx=broker.start("Counter", {"total": total})), 303)

    @app.get("/counts/<tx>")
    def show(tx: str) -> str:
        info = broker.get(tx)
        updates = broker.updates(tx) if info.over else ()  # of one that runs, they would go on
        return render_template_string(PAGE, info=info, updates=updates)

    @app.post("/counts/<tx>/stop")
    def stop(tx: str) -> Response:
        broker.cancel(tx, "stopped on the page")
        return redirect(url_for("show", tx=tx), 303)

    return app


app = create_app(SyncBroker(os.environ.get("ORBIT_REDIS", "redis://localhost")))

"""The page: Flask starts the transaction, the browser follows it at the edge.

    python examples/imgur/page.py --redis redis://localhost --edge http://127.0.0.1:8000
"""

import argparse

from flask import Flask, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Redirect

from orbit import RequestError, SyncBroker


def create_app(broker: SyncBroker, edge: str) -> Flask:
    """The application, on a deployment whose edge has the URL `edge` for browsers."""
    app = Flask(__name__)
    socket = edge.replace("http", "ws", 1).rstrip("/") + "/v1/ws"

    @app.get("/")
    def ask() -> str:
        return render_template("ask.html")

    @app.post("/images")
    def start() -> Redirect | tuple[str, int]:
        try:
            tx = broker.start("ImageDownload", {"name": request.form.get("name", "")})
        except RequestError as error:
            return render_template("ask.html", error=error.message), 400
        return redirect(url_for("show", tx=tx), 303)

    @app.get("/images/<tx>")
    def show(tx: str) -> str | tuple[str, int]:
        try:
            info = broker.get(tx)
        except RequestError as error:
            return render_template("ask.html", error=error.message), 404
        return render_template("show.html", tx=info.id, socket=socket)

    @app.after_request
    def own_scripts_only(response: Response) -> Response:
        origin = socket.split("/v1/")[0]
        policy = f"default-src 'self'; img-src 'self' blob:; connect-src 'self' {origin}"
        response.headers["Content-Security-Policy"] = policy
        return response

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--redis", required=True, help="the deployment's Redis")
    parser.add_argument("--edge", required=True, help="an edge's URL, as browsers reach it")
    parser.add_argument("--port", type=int, default=5000)
    options = parser.parse_args()
    with SyncBroker(options.redis) as broker:
        create_app(broker, options.edge).run(port=options.port, threaded=True)


if __name__ == "__main__":
    main()

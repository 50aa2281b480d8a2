"""Django (WSGI) in one file, with SyncBroker: start a count, look at it, stop it.

    orbit worker examples/counter.py --redis redis://localhost
    ORBIT_REDIS=redis://localhost python examples/django_app.py runserver
"""

import os
import secrets
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.template import Context, Engine
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_POST

from orbit import RequestError, SyncBroker

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY=os.environ.get("SECRET_KEY", secrets.token_hex(32)),
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        USE_TZ=True,
    )

broker = SyncBroker(os.environ.get("ORBIT_REDIS", "redis://localhost"))
"""One for all threads; it connects at its first use, also after a fork."""

PAGE = Engine().from_string("""<!doctype html><title>Count</title>
<form method="post" action="{{ start }}">{{ csrf }}<input name="total" value="10"><button>Count</button></form>
{% if error %}<p role="alert">{{ error }}</p>{% endif %}
{% if info %}
<h1>{{ info.status }}</h1>
<ol>{% for update in updates %}<li>{{ update.data }}</li>{% endfor %}</ol>
{% if info.over %}<p>Result: {{ info.result }}</p>
{% else %}<form method="post" action="{{ stop }}">{{ csrf }}<button>Stop</button></form>{% endif %}
{% endif %}""".replace("{{ csrf }}", '<input type="hidden" name="csrfmiddlewaretoken" value="{{ token }}">'))


def page(request: HttpRequest, status: int = 200, **context: object) -> HttpResponse:
    context |= {"start": reverse("start"), "token": get_token(request)}
    return HttpResponse(PAGE.render(Context(context)), status=status)


def refused(request: HttpRequest, error: RequestError) -> HttpResponse:
    return page(request, 404 if error.code == "not_found" else 400, error=error.message)


@require_GET
def ask(request: HttpRequest) -> HttpResponse:
    return page(request)


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    try:
        tx = broker.start("Counter", {"total": int(request.POST.get("total", ""))})
    except ValueError:
        return page(request, 400, error="total is a number")
    except RequestError as error:
        return refused(request, error)
    return HttpResponseRedirect(reverse("show", args=[tx]))


@require_GET
def show(request: HttpRequest, tx: str) -> HttpResponse:
    try:
        info = broker.get(tx)
    except RequestError as error:
        return refused(request, error)
    updates = broker.updates(tx) if info.over else ()  # of one that runs, they would go on
    return page(request, info=info, updates=updates, stop=reverse("stop", args=[tx]))


@require_POST
def stop(request: HttpRequest, tx: str) -> HttpResponse:
    try:
        broker.cancel(tx, "stopped on the page")
    except RequestError as error:
        return refused(request, error)
    return HttpResponseRedirect(reverse("show", args=[tx]))


urlpatterns = [
    path("", ask, name="ask"),
    path("counts", start, name="start"),
    path("counts/<str:tx>", show, name="show"),
    path("counts/<str:tx>/stop", stop, name="stop"),
]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)

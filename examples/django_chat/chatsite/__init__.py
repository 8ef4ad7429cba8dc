"""Chat rooms on Django Channels, with KPS between the processes. ``docs/channels.md`` explains it.

In examples/django_chat, each in a terminal of its own::

    python manage.py migrate
    python manage.py createsuperuser    # once for each person in the chat
    kps serve
    python manage.py runserver      # or: uvicorn chatsite.asgi:application
    python manage.py runworker dice
"""

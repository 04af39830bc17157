"""A small Telegram-marketplace backend: a webhook, a queue, one worker."""

"""Requests over HTTP: one session per server, retries, the proxy and certificates of the environment."""

from __future__ import annotations

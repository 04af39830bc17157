"""A registry that wants a token even for what everybody may read, and that keeps its blobs on another host.

    tokens.py CERTIFICATE KEY BLOB LOG

The way of registries such as ghcr.io (Docker Registry API, "Token Authentication"; distribution-spec, "Pulling blobs").
The registry is https://localhost:8443, its blobs are on https://127.0.0.1:8444. Every request goes into LOG, with what
it says of itself.
"""

import http.server
import json
import ssl
import sys
import threading

certificate, key, blob, log = sys.argv[1:]
TOKEN = "a.token-of_~+/characters="


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        own = self.server.server_port == 8443
        authorization = self.headers.get("Authorization", "-")
        with open(log, "a") as file:
            file.write(f"{self.server.server_port} {self.path} {authorization}\n")
        if own and self.path.startswith("/token?"):
            self.answer(200, json.dumps({"token": TOKEN, "expires_in": 300}).encode())
        elif own and authorization != f"Bearer {TOKEN}":
            challenge = 'Bearer realm="https://localhost:8443/token",service="localhost",scope="repository:a:pull"'
            self.answer(401, b"{}", ("WWW-Authenticate", challenge))
        elif own:
            self.answer(307, b"", ("Location", "https://127.0.0.1:8444/signed"))
        else:
            with open(blob, "rb") as file:
                self.answer(200, file.read())

    def answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
for port in (8443, 8444):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()

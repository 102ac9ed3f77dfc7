"""What tests stand on: real databases, real gateways as processes, scriptable providers on real sockets."""

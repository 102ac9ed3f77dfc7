"""Recording of bodies, where a route has it: copies taken on the request's way, written behind its back."""

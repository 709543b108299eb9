"""The router: from a request and the evidence to a decision. Pure on the request path; offline tools beside it."""

"""pointsman models quantize, prune, distill, search, bench, card, advise: builds made smaller, and what each is
worth.
"""

from gateway.cli.compress import advise, bench, card, distill, prune, quantize, search
from gateway.cli.models import app

app.command("quantize", help=quantize.HELP)(quantize.quantize)
app.command("prune", help=prune.HELP)(prune.prune)
app.command("search", help=search.HELP)(search.search)
app.command("distill", help=distill.HELP)(distill.distill)
app.command("bench", help=bench.HELP)(bench.bench)
app.command("card", help=card.HELP)(card.card)
app.command("advise", help=advise.HELP)(advise.advise)

__all__ = ["app"]

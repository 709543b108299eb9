"""What the mock engine, the load and the gateways' configurations have to agree on. Words only."""

MODEL = "large"  # every gateway serves the mock under this name
CHUNKS = 64  # with text, in a streamed answer
SPACING_SECONDS = 0.005  # 200 tokens a second: faster than any model here, so that the gateway's part shows
SPACED_MARK = "[spaced]"  # in a prompt: gateways pass prompts on unchanged, whatever they do to the rest
WORD = "answer "  # once in the text of each chunk
CHAT_PATH = "/v1/chat/completions"

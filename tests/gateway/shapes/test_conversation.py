from gateway.shapes.conversation import Conversation, image_part, text_part


def test_reasoning_is_kept_with_calls_and_dropped_elsewhere() -> None:
    talk = Conversation()
    talk.say("user", [text_part("Hi")])
    talk.think("a")
    talk.say("assistant", [text_part("Hello")])
    talk.say("user", [text_part("Weather?")])
    talk.think("b")
    talk.call("c1", "weather", "{}")
    talk.think("c")
    talk.call("c2", "weather", "{}")
    _, hello, _, calls = talk.end()
    assert "reasoning_content" not in hello
    assert calls["reasoning_content"] == "b\n\nc"
    assert [call["id"] for call in calls["tool_calls"]] == ["c1", "c2"]


def test_images_of_several_results_follow_the_last_result() -> None:
    talk = Conversation()
    for id in ("c1", "c2"):
        talk.call(id, "look", "{}")
    for id in ("c1", "c2"):
        talk.give(id, [image_part(f"data:{id}")])
    talk.say("assistant", [text_part("Two.")])
    _, first, second, images, _ = talk.end()
    assert [first["content"], second["content"]] == ["", ""]
    assert images == {
        "role": "user",
        "content": [
            text_part("From the result of c1:"),
            image_part("data:c1"),
            text_part("From the result of c2:"),
            image_part("data:c2"),
        ],
    }


def test_a_call_waits_for_one_result() -> None:
    talk = Conversation()
    assert not talk.awaits("c1")
    talk.call("c1", "f", "{}")
    assert talk.awaits("c1")
    talk.give("c1", [])
    assert not talk.awaits("c1")

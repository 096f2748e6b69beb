"""What customers say, by intent."""

PHRASES = {
    "card_lost": ["i lost my card", "my card is gone", "somebody stole my credit card",
                  "block my card please", "i cannot find my bank card"],
    "balance": ["what is my balance", "how much money do i have", "show the balance of my account",
                "how much is left on my account", "tell me my current balance"],
    "person": ["let me talk to a human", "i want a real person", "connect me to an agent",
               "give me somebody to talk to", "can i speak with a person"],
    "greeting": ["hello there", "good morning", "hi", "hey how are you", "good evening to you"],
}  # fmt: skip

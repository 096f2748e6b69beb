"""Conversations: who talks with whom, and who is to answer."""

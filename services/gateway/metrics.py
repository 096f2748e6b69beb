"""Metrics of the gateway. Label values are reasons and types that we give: bounded."""

from prometheus_client import Counter, Gauge, Histogram

SOCKETS = Gauge("gateway_sockets", "Sockets that are open.")
SUBSCRIPTIONS = Gauge("gateway_subscriptions", "Conversations followed, once per socket.")
FRAMES_IN = Counter("gateway_frames_in_total", "Frames from clients.", ["type"])
REFUSED = Counter("gateway_frames_refused_total", "Frames that were refused.", ["reason"])
CLOSED = Counter("gateway_sockets_closed_total", "Sockets closed by the gateway.", ["reason"])
REPAIRED = Counter("gateway_messages_repaired_total", "Messages read because no push brought them.")
NOT_RECOVERED = Counter(
    "gateway_not_recovered_total", "Subscriptions that were told of a hole in their history."
)
BATCH = Histogram(
    "gateway_submit_batch_size",
    "Messages submitted together.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 500),
)

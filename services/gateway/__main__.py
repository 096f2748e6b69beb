"""Wires the gateway."""

from services.common import clients
from services.common.clock import SystemClock
from services.common.host import Host, main
from services.common.ids import uuid7_batch
from services.common.push import Followers, Pusher
from services.common.redis import connect
from services.gateway.door import Door
from services.gateway.gateway import Gateway
from services.gateway.upstream import Upstream


async def wire(host: Host) -> None:
    """Add the gateway to a host."""
    settings = host.settings
    # Of one start of the process: what an earlier one held is not its own.
    instance_id = f"gateway-{uuid7_batch(1, SystemClock().now_us())[0]}"
    channel = clients.channel(settings)
    host.on_close(channel.close)
    redis = connect(settings)
    host.on_close(redis.aclose)
    pusher = Pusher(redis, settings)
    followers = Followers(redis, instance_id, lambda push: gateway.receive(push))
    gateway = Gateway(settings, Upstream(channel, instance_id), followers, pusher)
    door = Door(gateway)
    host.on_close(gateway.close)

    async def attend() -> None:
        # News must be followed before anybody asks for them.
        await host.serving.wait()
        await door.open()
        await host.draining.wait()
        await door.close()
        await gateway.drain()

    host.add_task("gateway pushes", pusher.run)
    host.add_task("gateway followers", followers.run)
    host.add_task("gateway sessions", gateway.sessions.run)
    host.add_task("gateway watermarks", gateway.tails.run)
    host.add_task("gateway desks", gateway.desks.run)
    host.add_task("gateway presence", lambda: gateway.presences.run(gateway.feeds))
    host.add_task("gateway timers", gateway.wheel.run)
    host.add_task("gateway door", attend)


if __name__ == "__main__":
    main(wire)

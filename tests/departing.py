"""A site that sends whatever it answered."""

from fedvol.errors import FedvolError, SiteFailedError
from fedvol.transport.engine import Message
from fedvol.transport.flower import failed_reply


class AllDepart:
    """`Departures` of a site that sends whatever it answered; its failures are Flower's own."""

    def cleared(self, answer: Message, *, to: Message) -> Message:
        """The answer."""
        del to
        return answer

    def failure(self, to: Message, error: FedvolError) -> Message:
        """Flower's error, without a word of the reason."""
        del error
        return failed_reply(to, SiteFailedError.code)

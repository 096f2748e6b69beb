"""Twenty real equities for demonstrations, created through the API like any other.

The tick of 0.0001 and the lot of 1 let prices and odd lots of a real tape pass.
"""

from google.type.decimal_pb2 import Decimal
from interchange.instrument.v1.instrument_pb2 import ASSET_CLASS_EQUITY, Instrument
from interchange.instrument.v1.instrument_service_pb2 import CreateInstrumentRequest

LOT_SIZE = "1"
TICK_SIZE = "0.0001"

EQUITIES = (
    ("AIG", "American International Group Inc", "US0268747849", "026874784", "", "XNYS", "USD"),
    ("BAC", "Bank of America Corp", "US0605051046", "060505104", "BBG000BCTLF6", "XNYS", "USD"),
    (
        "IBM",
        "International Business Machines Corp",
        "US4592001014",
        "459200101",
        "BBG000BLNNH6",
        "XNYS",
        "USD",
    ),
    ("AAPL", "Apple Inc", "US0378331005", "037833100", "BBG000B9XRY4", "XNAS", "USD"),
    ("MSFT", "Microsoft Corp", "US5949181045", "594918104", "BBG000BPH459", "XNAS", "USD"),
    ("INTC", "Intel Corp", "US4581401001", "458140100", "", "XNAS", "USD"),
    ("CSCO", "Cisco Systems Inc", "US17275R1023", "17275R102", "", "XNAS", "USD"),
    ("JPM", "JPMorgan Chase & Co", "US46625H1005", "46625H100", "", "XNYS", "USD"),
    ("C", "Citigroup Inc", "US1729674242", "172967424", "", "XNYS", "USD"),
    ("WFC", "Wells Fargo & Co", "US9497461015", "949746101", "", "XNYS", "USD"),
    ("XOM", "Exxon Mobil Corp", "US30231G1022", "30231G102", "", "XNYS", "USD"),
    ("KO", "Coca-Cola Co", "US1912161007", "191216100", "", "XNYS", "USD"),
    ("PFE", "Pfizer Inc", "US7170811035", "717081103", "", "XNYS", "USD"),
    ("SAP", "SAP SE", "DE0007164600", "", "", "XETR", "EUR"),
    ("SIE", "Siemens AG", "DE0007236101", "", "", "XETR", "EUR"),
    ("MC", "LVMH Moet Hennessy Louis Vuitton SE", "FR0000121014", "", "", "XPAR", "EUR"),
    ("TTE", "TotalEnergies SE", "FR0000120271", "", "", "XPAR", "EUR"),
    ("ASML", "ASML Holding NV", "NL0010273215", "", "", "XAMS", "EUR"),
    ("ENI", "Eni SpA", "IT0003132476", "", "", "XMIL", "EUR"),
    ("SAN", "Banco Santander SA", "ES0113900J37", "", "", "XMAD", "EUR"),
)
"""Symbol, which is the id too, name, ISIN, CUSIP, FIGI, MIC and currency."""


def requests() -> list[CreateInstrumentRequest]:
    """Return the requests that create them; they may be sent again and again."""
    return [
        CreateInstrumentRequest(
            instrument=Instrument(
                instrument_id=symbol,
                symbol=symbol,
                name=name,
                asset_class=ASSET_CLASS_EQUITY,
                isin=isin,
                cusip=cusip,
                figi=figi,
                mic=mic,
                currency=currency,
                lot_size=Decimal(value=LOT_SIZE),
                tick_size=Decimal(value=TICK_SIZE),
            ),
            request_id=f"seed-{symbol}",
        )
        for symbol, name, isin, cusip, figi, mic, currency in EQUITIES
    ]

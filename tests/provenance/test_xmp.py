from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from webui.provenance.lineage import VOCABULARY
from webui.provenance.xmp import read_source_type, write_xmp


def test_what_is_written_is_well_formed_and_read_again() -> None:
    packet = write_xmp("trainedAlgorithmicMedia")
    tree = ElementTree.fromstring(packet.partition("?>")[2].rpartition("<?")[0])
    attributes = {
        key.rpartition("}")[2]: value for each in tree.iter() for key, value in each.items()
    }
    assert attributes["DigitalSourceType"] == VOCABULARY + "trainedAlgorithmicMedia"
    assert read_source_type(packet) == "trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "packet",
    [
        f"<Iptc4xmpExt:DigitalSourceType>{VOCABULARY}digitalArt</Iptc4xmpExt:DigitalSourceType>",
        f"<x:DigitalSourceType rdf:resource='{VOCABULARY}digitalArt'/>",
        f'DigitalSourceType = "{VOCABULARY}digitalArt"',
    ],
)
def test_the_ways_others_write_it(packet: str) -> None:
    assert read_source_type(packet) == "digitalArt"


@pytest.mark.parametrize(
    "packet", ["", "<x/>", "DigitalSourceType", 'DigitalSourceType="http://x/y"']
)
def test_no_statement(packet: str) -> None:
    assert read_source_type(packet) is None

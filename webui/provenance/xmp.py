"""XMP: the one statement in it that a picture was made by AI (IPTC, digital source type)."""

from __future__ import annotations

import re

from webui.provenance.lineage import VOCABULARY

_TYPE = re.compile(
    r"DigitalSourceType[^<>\"']{0,40}[=>]\s*[\"']?\s*" + re.escape(VOCABULARY) + r"([A-Za-z]{1,64})"
)


def write_xmp(source_type: str) -> str:
    """An XMP packet that states a digital source type, the last part of its address."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' Iptc4xmpExt:DigitalSourceType="{VOCABULARY}{source_type}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def read_source_type(packet: str) -> str | None:
    """The digital source type in an XMP packet of anybody's; no XML is parsed for it."""
    found = _TYPE.search(packet)
    return None if found is None else found[1]

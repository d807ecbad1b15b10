"""Makes a cleared picture one that says what it is: recipe, XMP and signed credentials.

The one maker of `Signed`. The watermark is in the pixels before they are checked; here it is read
from the very bytes that were cleared, and nothing but text and credentials is added to them.
"""

from __future__ import annotations

import hashlib

from webui.clearance import Cleared, Signed
from webui.errors import BrokenFileError, MarkError
from webui.interchange.infotext import write_infotext
from webui.provenance import watermark
from webui.provenance.c2pa import Signer, Statement
from webui.provenance.lineage import is_partial, lineage_of, source_type_of
from webui.provenance.pngtext import XMP, insert_text
from webui.provenance.recipe import KEY, Recipe
from webui.provenance.xmp import write_xmp
from webui.safety.pictures import decode


def sign(
    cleared: Cleared,
    recipe: Recipe,
    signer: Signer,
    parent: bytes | None = None,
    plain: bytes | None = None,
) -> Signed:
    """The picture's file: the cleared PNG with its recipe and its marks in it.

    Args:
        parent: File of the picture it began from, if it began from one; its credentials are kept.
        plain: The same picture without any, for when those of `parent` cannot be kept.

    Raises:
        MarkError: The watermark is not in it, or it cannot be signed.
    """
    parameters = write_infotext(
        recipe.request,
        model_hash=recipe.model_sha256[:10],
        version=f"easel {recipe.versions['easel']}",
        lora_hashes={lora.name: lora.auto_v3 for lora in recipe.loras},
        embedding_hashes={one.name: one.auto_v2 for one in recipe.embeddings},
        vae_hash=None if recipe.vae_sha256 is None else recipe.vae_sha256[:10],
        refiner_hash=None if recipe.refiner_sha256 is None else recipe.refiner_sha256[:10],
    )
    source_type = source_type_of(recipe.request)
    lineage = lineage_of(recipe, _marked_bits(cleared, recipe))
    texts = {KEY: recipe.to_json(), "parameters": parameters, XMP: write_xmp(source_type)}
    unsigned = insert_text(cleared.data, texts)
    try:
        data = signer.sign(unsigned, Statement(source_type, lineage, parent))
    except MarkError:
        if plain is None:
            raise
        # Anybody's credentials may be damaged in a way that is seen only here.
        data = signer.sign(unsigned, Statement(source_type, lineage, plain))
    return Signed(data, hashlib.sha256(data).hexdigest())


def _marked_bits(cleared: Cleared, recipe: Recipe) -> int:
    """How well the watermark reads; only a part may be too small to hold it."""
    try:
        reading = watermark.read(decode(cleared.data))
    except BrokenFileError as error:
        raise MarkError(_UNMARKED) from error
    if not reading.present and not is_partial(recipe.request):
        raise MarkError(_UNMARKED)
    return reading.bits


_UNMARKED = "The picture could not be marked as made by AI, so it was not released."

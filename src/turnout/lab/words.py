"""The whole words that the laboratory's tokenizer reads as one token.

A leading underscore stands for a leading space. The order is part of the weights: token 259 is
the first word. Words are only ever appended, never moved, or shipped weights would read nonsense.
"""

from __future__ import annotations

__all__ = ["WORDS"]

_TABLE = """
_Ann _April _August _Bob _Carl _Dana _December _Eva _February _Finn _Friday _Gus _Hana _Ivan
_January _Jill _July _June _Kim _Leo _March _May _Mia _Monday _Noah _November _October _Olga
_Pam _Quinn _Rosa _Sam _Saturday _September _Sunday _Tess _Thursday _Tuesday _Wednesday _What
_acronym _after _alphabetical _an _anchor _and _appear _apple _are _backwards _balance _basket
_before _black _blue _brackets _bridge _brown _candle _castle _centimeters _cents _colour
_complete _compute _day _days _desert _difference _do _does _dollars _dragon _eagle _engine
_exactly _feet _find _first _flute _follow _forest _from _gallons _garden _gold _green _grey
_guitar _hammer _harbor _hat _hats _hours _in _inches _initials _is _island _it _ivory _jacket
_jungle _kettle _kilometers _kitten _ladder _largest _last _lemon _letter _letters _many _marble
_maximum _meters _millimeters _minimum _minus _minutes _mirror _month _months _more _must
_needle _number _nutmeg _ocean _of _often _once _onion _open _orange _order _ounces _out _pepper
_pink _planet _plus _pounds _quarts _quartz _quilt _rabbit _red _reverse _river _saddle _seconds
_see _silver _smallest _sum _temple _the _these _this _tiger _times _to _umbrella _urchin
_valley _velvet _violet _walnut _was _weeks _white _window _word _write _written _yards _yellow
_yogurt _you _zebra Add Ann April Arrange August Bob Carl Close Convert Copy Count Dana December
Eva Express February Find Finn Friday Give Given Gus Hana How Ivan January Jill July June Kim
Leo Make March May Mia Monday Name Noah November October Olga Pam Please Put Quinn Repeat
Reverse Rosa Sam Saturday Say September Sort Spell Subtract Sunday Tess The Thursday Today
Tuesday Wednesday What Which Work Write black blue brown gold green grey orange pink red violet
white yellow
"""

WORDS: tuple[str, ...] = tuple(word.replace("_", " ") for word in _TABLE.split())

"""Words and wordings of change between examinations, and what is left of a sentence without them.

Rules are applied in their order, to sentences in any case.
"""

import re

from clinicclip.data.cues import DEGREE, SEVERITY


def _any(words: str) -> str:
    """Space-separated words as an alternation; "_" stands for a space inside one."""
    return "(?:" + "|".join(w.replace("_", " ") for w in words.split()) + ")"


_BLANK = r"(?:x{2,}|_{2,}|[\d/:-]+(?:[.,]\d+)*)"
_DEGREE = _any(
    "very slightly mildly grossly overall essentially relatively largely markedly significantly minimally somewhat "
    "much generally fairly clearly definitely substantially likewise also now otherwise slight mild marked little"
)
_DEGREES = rf"(?:{_DEGREE} )*+"
_SAME = _any("stable unchanged similar constant the_same same")
_MOVED = _any(
    "improved improving worsened worsening progressed increased decreased increasing decreasing larger smaller worse "
    "better developed appeared recurred grown enlarged_in_the_interval changed different "
    "(?:less|more)_(?:prominent|severe|extensive|conspicuous|pronounced|marked|dense)"
)
_BE = _any("is are was were remains? appears? has_been have_been has have seems? continues?_to_be")
_NEW = _any(
    "stable stably unchanged newly_developed new newly interval intervally persist persistent persistently persisting "
    "worsening worsened improving improved resolving again once_again redemonstrated redemonstration_of "
    "re-?identified progressive progressively residual recurrent (?<!of_)known continued evolving developing enlarging "
    "increasing(?!_in_) decreasing(?!_in_)"
)
_VARYING = _any("increased decreased increasing decreasing larger smaller")
_SIZE = _any(" ".join(word.replace(" ", "_") for _, words in SEVERITY for word in words))
_SEEN = _any("seen noted identified demonstrated visuali[sz]ed present evident observed visible appreciated")
_ASPECT = _any("size appearance extent position configuration contour the_interval")
_FEATURE = rf"(?: (?:in|since) (?:the )?{_ASPECT}(?:(?:,|,? and)? {_ASPECT})*+)?"
_EARLIER = _any(
    "prior previous preceding last old older earlier remote recent comparison outside baseline priors yesterday"
)
_STUDY = _any(
    "exam(?:ination)?s? computed_tomogra(?:phy|ms?) stud(?:y|ies) radiographs? x-?rays? x-?x+ films? ct imaging "
    "images? scans? chest one priors? pa ap lateral portable frontal comparisons? and"
)
_DATED = (
    rf"(?: (?:dated|from|of|performed|obtained|on|at|the|same|day|am|pm|hours?|days?|weeks?|months?|years?|ago|earlier|"
    rf"{_BLANK})(?!\w))*+"
)
_PRIOR = (
    rf"(?:(?:the|a|an|his|her|most|patient's|multiple) )*+(?:{_EARLIER}|{_BLANK})(?!\w)"
    rf"(?:,? (?:{_EARLIER}|{_STUDY}|{_BLANK})(?!\w))*+{_DATED}"
)
_TURNED = _any("enlarged expanded reaccumulated re-accumulated")  # "is enlarged" is a state
_CHANGE = _any("changes? increase decrease development improvement worsening progression enlargement reduction")
_STATE = r"(?!stable|unchanged|less|smaller|larger|worse|better|evident|apparent|visible|conspicuous|prominent)"
_HAS = (
    rf"(?:{_BE} (?:not )?{_DEGREES}(?:{_SAME}|{_MOVED})|"
    rf"(?:has|have) (?:not )?(?:become )?{_DEGREES}(?:{_TURNED}|{_MOVED}))"
)
_MEASURED = r"(?<!volume)(?<!volumes)(?<!markings)(?<!vascularity)(?<!height)"  # "low" is their state, not a change
_KIND = rf"(?:{DEGREE}|any|x+)"

_IN_PART = _any("incompletely incomplete partially partly partial nearly near almost largely mostly")
_REST = r"(?:(?!\b(?:but|and|while|although|however|though|with|without|except|whereas)\b)[^,;])*"  # of a clause
_GONE = (  # what stood there and does so no more: the rewriting denies it
    rf"^(?:after |following )?(?:the |there (?:is|has been) )?(?:{_DEGREE} |interval |complete |a )*+"
    r"(?:resolution|clearing|disappearance|removal) (?:of|in) (?:the |a )?(?P<x>.+)$",
    r"^(?:the |a )?(?P<x>.+?) (?:has|have)(?: now| since| completely| essentially|"
    r" subsequently)* "
    rf"(?:resolved|cleared|disappeared|been (?:removed|drained|evacuated))\b{_REST}$",
    rf"^(?:the |a )?(?P<x>.+?) (?:is|are) (?:now )?(?:no longer (?:\w+ )?{_SEEN}|resolved|gone)\b{_REST}$",
    r"^(?:interval(?:ly)? )?resolved (?P<x>.+)$",
)
EARLIER_ADJECTIVE = re.compile(
    rf"^(?:(?:previous(?:ly)? )?(?:{_SEEN}|described)|previous|prior|stable|old|small|the|a|an) ", re.IGNORECASE
)
SEEN_EARLIER = re.compile(rf",? (?:{_SEEN}|described) (?:on|in) {_PRIOR}$", re.IGNORECASE)
_DROPPED = (  # nothing but comparison
    rf"^(?:there (?:is|has been|have been) |with )?(?:{_DEGREE} |{_KIND} |no |without )*+(?:change|changes)"
    rf"(?: (?:is|are) {_SEEN})?(?: (?:from|since|in the|compared|when|as|over|to)\b.*)?$",
    rf"^(?:(?:the|an?|overall) )*+{_DEGREES}{_SAME}(?: (?:radiographic|chest|overall|interval))*"
    r"(?: (?:appearance|exam(?:ination)?|study|chest|findings?|radiographs?|x-?\w+|follow ?-?up|"
    r"of the chest))+"
    r"(?: (?:from|since|compared|when|as|to)\b.*)?$",
    rf"^(?:this|these|it|they) (?:shows?|has|have|is|are|appears?) (?:{_DEGREE} |{_KIND} )*+(?:{_SAME}|"
    rf"{_MOVED}|{_CHANGE})\b.*$",
    rf"^(?:the )?(?:exam(?:ination)?|study|appearance(?: of the chest)?|findings?|"
    rf"chest) {_BE} {_DEGREES}{_SAME}\b.*$",
    r"^(?:in )?(?:comparison|compared?|correlation)(?: (?:is|was|are|made|to|with|the|none)\b.*)?$",
    r"^(?:no|none)(?: available)? (?:prior|previous|comparison)s?(?: \S+)*$",
    rf"^{_DEGREES}(?:{_SAME}|{_MOVED})$",
    r"^(?:the )?patient (?:has been|was|is) (?:now |since )*extubated$",
)
_STABLE_CHEST = (
    rf"(?:the )?{_DEGREES}{_SAME} (?:appearance of (?:the )?chest|chest|exam(?:ination)?|study)"
    r"(?: (?:x-?\w+|radiograph))?,?"
)
_REWRITES = (
    (r"^(?:in |as |when |by )?compar(?:ed|ison) (?:with|to) [^,;]*, ", ""),
    (r"\bthere's (?=been\b)", "there has "),
    # a first clause that says of anatomy only that it has not changed
    (
        rf"^[^,;]{{1,60}}? (?:is|are) {_DEGREES}{_SAME}{_FEATURE},? (?:and|but|while) "
        r"(?=(?:the|there|no)\b[^,;]* (?:is|are|has|have)\b)",
        "",
    ),
    # adjectives of change beside others of the same noun: "small but increasing", "decreasing but large"
    (
        rf"\b({_SIZE}|bilateral|left|right)(?:,|,? (?:and|but|yet|though)) {_DEGREES}(?:{_NEW}|{_VARYING})"
        r"(?! (?:in|than|since|from|on|at|and|or|but)\b)(?= [a-z])",
        r"\1",
    ),
    (rf"\b{_DEGREES}(?:{_NEW}|{_VARYING}|{_SAME})(?:,|,? (?:but|yet|though)) (?={_SIZE}|{_NEW}|large)", ""),
    (r"\bstill (?=[a-z])", ""),
    # the state that a change has led to
    *(
        (
            rf"\b{has} {_DEGREES}(?:{_MOVED}|{_TURNED})(?: in (?:size|extent))?"
            rf"(?: from {_SIZE})?(?: to|,? (?:and|but) (?:now|(?:now )?(?:is|are|remains?)(?: now)?)) "
            rf"(?={_SIZE}|normal\b)",
            rf"{be} ",
        )
        for has, be in (("has", "is"), ("have", "are"))
    ),
    *(
        (rf"\b{has} {_DEGREES}become (?:more |increasingly |{_DEGREES})(?={_STATE}\w+)", rf"{be} ")
        for has, be in (("has", "is"), ("have", "are"))
    ),
    (
        rf",? {_HAS}{_FEATURE},? (?:and|but|though|although) (?:has |have |is |are )?not {_DEGREES}(?:yet |completely |"
        r"fully |entirely )?(?:resolved|cleared|gone|changed)\b",
        "",
    ),
    (rf"\b{_HAS}{_FEATURE},? (?:and|but) (?=(?:remains?|persists?|continues?)\b)", ""),
    (
        r", (?:which|that) (?=(?:has|have|is|are)(?: now| since| completely)* (?:resolved|cleared|gone|no longer)\b)",
        " ",
    ),
    (rf",? (?:which (?:was|were) )?(?:previously|formerly) (?:[a-z]+ly )?(?:[a-z]+(?:ed|ent|al)|{_SIZE})$", ""),
    (r",? ?\b(?:still|today)$", ""),
    # what was before, and goes on behind it
    (r", (?:which|that) (?:was|were|had been) [^,;]*\b(?:previous|prior|before)[^,;]*, (?=(?:is|are|has|have)\b)", " "),
    (r",? (?:was|were|previously) [\w ]+?, (?:and |but )?(is|are) now ", r" \1 "),
    (rf",? {_BE} not (?:as|so) \w+ as (?:before|previously|(?:(?:on|in) )?{_PRIOR})$", ""),
    (rf",? (?:does|do) not appear (?:to (?:have|be) )?{_DEGREES}{_MOVED}\b", ""),
    (rf",? {_BE} neither {_MOVED} nor {_MOVED}\b", ""),
    (rf"^neither (?:the )?(.+?) nor (?:the )?(.+?) {_BE} {_DEGREES}(?:{_MOVED}|resolved|cleared)$", r"\1 and \2"),
    (
        rf" (?:has|have) {_DEGREES}{_MOVED} (on the (?:left|right)),? (?:and|but) (?:has |have )?{_DEGREES}{_MOVED} "
        r"(?=on the (?:left|right)$)",
        r" \1 and ",
    ),
    (rf"\b(heart|silhouette) (?:has|have) {_DEGREES}(?:increased|enlarged)(?: in size)?$", r"\1 is enlarged"),
    (r"\blungs have (?:now |since |completely )?cleared$", "lungs are clear"),
    (rf"^(?:there (?:is|has been) )?no (?:{_KIND} )*change in (?:the )?(?:appearance|size) of (.+?), which ", r"\1 "),
    (rf"\b(is|are) {_DEGREES}{_SAME}(?:,? (?:and|but) remains?|,) (?=(?:\w+ly )?enlarged)", r"\1 "),
    # phrases that only point to another examination
    (
        rf",? ?(?:\b(?:which|this|that) )?\b(?:was|were|is|are)? ?not (?:\w+ )?(?:{_SEEN}|apparent|there) "
        rf"(?:(?:on|in) {_PRIOR}|previously|before|earlier)",
        " ",
    ),
    (rf",? (?:as )?(?:(?:is|are|was|were) )?(?:better |best |also )?{_SEEN} (?:on|in) {_PRIOR}$", ""),
    (rf"[,(]? ?\b(?:(?:when|as|in) )?(?:compared|comparison|relative) (?:to|with)(?: {_PRIOR})?\)?,?", " "),
    (
        rf"[,(]? ?\b(?:in the interval|since|from|than(?: on)?|as on|(?:as )?seen on|on|over|to) {_PRIOR}"
        r"(?=$|[,.;)]| (?:and|with|but|without|are|is|there)\b)\)?",
        " ",
    ),
    (rf",? ?\b(?:(?:in|over|during) the (?:short )?interval|since (?:the )?{_BLANK}(?: \w+)?)\b", " "),
    (
        r",? ?\b(?:since|from|than) (?:yesterday|today|earlier(?: today)?|this morning|last (?:night|week|month)|"
        r"admission|before|previously)\b",
        " ",
    ),
    (rf"\bpreviously (?:{_SEEN}|described|reported|mentioned) ", ""),
    (r",? ?\b(?:as (?:before|previously(?: \w+)?)|as seen previously|previously)\b,?", " "),
    (r"\bno longer (?=(?:an?|any|evidence)\b)", "no "),
    (r"\bno (?:an?|any)\b", "no"),
    (rf"\b(no|without) (?:{_KIND} )*(?:development|appearance|recurrence|reaccumulation) of ", r"\1 "),
    (rf"^(?:overall,? )?(?:there (?:is|has been) )?no (?:{_KIND} )*changes? with ", ""),
    (rf"\b(?:interval(?:ly)? )?{_IN_PART}(?: completely)?[- ](?:resolved|cleared) (?=[a-z])", ""),
    (r"\b(is|are) now (?=\w)", r"\1 "),
    (rf"^(?:interval )?(?:{_MOVED}|{_CHANGE} in) aeration (?:of|in|at) (?:[\w ]+?) (?:with|and) ", ""),
    # a stable whole with something in it
    (rf"^{_STABLE_CHEST} with ", ""),
    (rf"^{_STABLE_CHEST} without ", "No "),
    (rf"^(?:the )?{_DEGREES}{_SAME} (?:position|size) of (?:the |an? )?", ""),
    (rf",? (?:is |are |remains? )?(?:in )?(?:an? )?{_DEGREES}{_SAME} (?:position|size)\b(?! (?:of|to)\b)", ""),
    (rf"^(?:there is |the )?{_DEGREES}{_SAME} appearance(?: (?:of|to))?(?: the| an?)? (?!chest)", ""),
    (rf",? with (?:an? )?{_DEGREES}{_SAME} (?:appearance|size|position|configuration)\b", ""),
    # change denied or affirmed: the thing itself stays
    (
        rf",? {_BE} (?:now |since )?(?:not(?: yet| completely| fully| entirely)?|(?:only )?{_IN_PART}(?: completely)?) "
        r"(?:resolved|cleared)\b",
        "",
    ),
    (rf"^((?:there (?:is|has been) )?no (?:{_KIND} )*change in .+?) or ", r"\1 and "),
    (
        rf"^(?:there (?:is|has been) )?(?:interval )?(?:{_IN_PART}|near)(?:[- ]complete)? (?:resolution|clearing) of ",
        "",
    ),
    (r"^(?:there (?:is|has been) )?(?:interval )?placement of (?:the |an? )?", ""),
    (rf",? (?:without|with no)(?: {_KIND})* change(?: (?:in )?(?:size|position|appearance))?\b", " "),
    (rf",? with (?:{_KIND} )*{_CHANGE}$", ""),
    (
        rf"^(?:the |there (?:is|has been|have been) )?(?:{_DEGREE} |{_KIND} |no |without |continued |"
        rf"an? )*+{_CHANGE} (?:in|of) "
        r"(?:the |an? )?+(?:(?:appearance|size|number) of )?+(?:the |an? )?+(?!heart|cardiac|lung|aort|"
        r"mediast|pulmonary art|hil|aeration)",
        "",
    ),
    (r"^no change (?=(?:chronic|mild|minimal|moderate|right|left|bilateral)\b)", ""),
    (
        rf"\b(is|are|appears?) {_DEGREES}{_SAME},? (?:and|but) (?=(?:with)?in |normal|unremarkable|clear|"
        rf"enlarged)",
        r"\1 ",
    ),
    (
        rf",? {_HAS}{_FEATURE},? (?:and|but) "
        r"(?=(?:is|are|may|could|appears?|consistent|compatible|likely|most likely)\b)",
        " ",
    ),
    # a clause of its own goes on: the first keeps a verb
    *(
        (
            rf"{_MEASURED} {be} (?:not )?{_DEGREES}(?:{_SAME}|{_MOVED}|{_TURNED}){_FEATURE}"
            r"(?=,? (?:and|but|while|although) (?!no\b)[^.,;]*? (?:is|are|has|have|remains?|appears?)\b)",
            f" {now} present",
        )
        for be, now in (
            (r"(?:is|has|was|remains|appears)(?: been)?", "is"),
            (r"(?:are|have|were|remain|appear)(?: been)?", "are"),
        )
    ),
    (rf",? (?:which|that) {_BE} (?:not )?{_DEGREES}(?:{_SAME}|{_MOVED}){_FEATURE}(?=$|[,.;]| and)", ""),
    (
        rf"{_MEASURED},? {_HAS}{_FEATURE}(?: (?:and|but|in|or) {_SAME})?"
        rf"(?=$|[,.;]| (?:and|with|but|without)\b)",
        "",
    ),
    (rf",? (?:and |but |is |are )?{_DEGREES}{_SAME}{_FEATURE}$", ""),
    (rf", (?:and |but )?not {_DEGREES}{_MOVED}{_FEATURE}$", ""),
    (rf", {_DEGREES}{_MOVED}$", ""),
    # verbs that hold a "still"
    (rf"^again {_SEEN} (is|are) ", r"There \1 "),
    (rf"\b(there (?:is|are)) (?:once )?again {_SEEN}\b", r"\1"),
    (rf"\b(is|are) (?:once )?again(?= (?:{_SEEN}|enlarged|elevated|low|hyper\w+)\b)", r"\1"),
    (r"\b(is|are) (?:redemonstrated|re-?identified)\b", r"\1 seen"),
    (r"\bpersists(?=$|[,.;])", "is present"),
    (r"\bpersist(?=$|[,.;])", "are present"),
    (r"\bcontinues to be\b", "is"),
    (r"\bcontinue to be\b", "are"),
    (r"\bremains\b", "is"),
    (r"\bremain\b", "are"),
    # adjectives and adverbs of time
    (rf"\b{_DEGREES}{_NEW}(?:(?:,| and|,? but| or) {_NEW})*+(?: appearing)?\b(?! lines?\b),?", ""),
    (
        rf"(?:^there (?:is|are) )?\b{_DEGREES}(?:(?:in|de)creas(?:ed|ing)|larger|smaller) (?!than )"
        r"(?=(?:in )?(?:size(?: of)? )?(?:(?!with|and|or|but)[\w-]+ ){0,5}"
        r"(?:effusions?|pneumothora(?:x|ces)|atelectasis|consolidations?|edema|cardiomegaly|infiltrates?|opacit(?:y|ies)|"
        r"nodules?|mass(?:es)?|lesions?|pneumonia|fractures?|disease|process|cavit(?:y|ies)|adenopathy|congestion|collapse|"
        r"scarring|hernia|thickening|plaques?|enlargement|widening)\b)",
        "",
    ),
)
GONE = tuple(re.compile(p, re.IGNORECASE) for p in _GONE)
DROPPED = re.compile("|".join(f"(?:{p})" for p in _DROPPED), re.IGNORECASE)
REWRITES = tuple((re.compile(p, re.IGNORECASE), r) for p, r in _REWRITES)

"""Cues that turn a mention round or make it doubtful, and where their reach ends (NegEx form).

Patterns are for lower-cased text and are matched at word boundaries. Source of the form: Chapman et al., J
Biomed Inform 2001; words and scopes are ours.
"""

from clinicclip.data.schema import MILD, MODERATE, SEVERE

# "No changes of edema" denies edema; "no change of the edema" does not.
_CHANGE = (
    r"(?:change[sd]?(?! of (?!the\b))|increases?|decreases?|progression|improvement|worsening|growth|"
    r"enlargement of the(?! (?:heart|cardi)))"
)
DEGREE = (  # of a change
    r"(?:[a-z]+ly|significant|substantial|appreciable|[a-z]+(?:ce|[st]i|a)ble|definite|interval|acute|further|"
    r"suggestion of|evidence of|much|other|relevant|important|great|notable|obvious|evident|apparent|real|major|minor|"
    r"marked|material|meaningful|considerable|dramatic|gross|large|clear)"
)
_COMPARED = r"(?:changed|improved|worsened|progressed|different|larger|smaller|bigger|better|worse)"
_MOVED = rf"(?:{_COMPARED}|increased|decreased|grown|evolved|enlarged|expanded)"
_SEEN = r"(?:[a-z]+ )?(?:seen|identified|visuali[sz]ed|present|evident|appreciated|demonstrated|noted|visible|there)"
_NOT_SEEN = rf"not {_SEEN}"
_ELSEWHERE = r"(?:(?:on|in) (?:the |a |any )?(?:lateral|frontal|prior|previous|earlier|old)|previously|before|earlier)"
NEUTRAL = (  # look like a denial and are none, or bind tighter than the cue inside them
    rf"(?:(?:is|are|has|have) )?(?:no|without|not|any)(?: {DEGREE})*? {_CHANGE}(?: in)?(?: size)?",
    # "markings are not increased" and "no larger nodule" deny
    rf"(?:has|have|did) not(?: been)?(?: [a-z]+ly| much| any)? {_MOVED}",
    rf"(?:(?:is|are|does|do) )?not(?: [a-z]+ly| much| any)? (?:{_COMPARED}|(?:as|so) [a-z]+ as)",
    rf"(?:is|are) no {_COMPARED}",
    r"neither (?:[a-z]+ ){1,6}?nor (?:[a-z]+ ){1,6}?(?:has|have|is|are)(?: [a-z]+ly)? "
    rf"(?:{_MOVED}|resolved|cleared)",
    rf"(?:has|have|is|are) neither {_MOVED} nor {_MOVED}",
    r", (?:which|that) (?:was|were|had been) (?:[a-z]+ ){0,6}?[a-z]+,",  # of the past; the sentence goes on
    r"unchanged",
    # not normal is no denial
    r"(?:(?:is|are|was|were|appears?|has|have) )?(?:not|no longer)(?: [a-z]+){0,2}? "
    r"(?:clear(?! (?:whether|if))(?: of)?|normal|unremarkable|intact|(?:with)?in normal limits)",
    rf"(?:(?:is|are|was|were) )?{_NOT_SEEN} {_ELSEWHERE}",
    rf"not previously {_SEEN}",
    r"not only",
    r"no doubt",
    r"no further",
    r"(?:consistent|compatible|associated) with",
    r"to (?:suggest|indicate)",
    r"(?:most|highly|strongly|very|quite) suggestive of",
    r"(?:in view of|given|considering) (?:the |this )?(?:[a-z]+ )?history(?! of)",
    r"no prior",
    r"no comparisons?",
    # gone in part, or not at all: still there
    r"(?:(?:has|have|is|are) )?not(?: (?!(?:and|but)\b)[a-z]+){0,2}? (?:resolved|cleared)",
    r"(?:(?:has|have|is|are) )?(?:only )?(?:incompletely|partially|partly|nearly|almost|largely|mostly)"
    r"(?: completely)? (?:resolved|cleared)",
    r"(?:no|without|incomplete|partial|near)(?:[- ][a-z]+)? (?:resolution|clearing) (?:of|in)(?: the)?",
)
DENY_BEFORE = (
    r"no(?: longer)?",
    r"not",
    r"without",
    r"w/o",
    r"(?:is |are )?negative for",
    r"(?:free|clear|cleared|devoid) of",
    r"absence of",
    r"lack of",
    r"(?:interval )?(?:resolution|removal|clearing|disappearance) (?:of|in)(?: the)?",
    r"rather than",
    r"nothing",
    r"fail(?:s|ed|ure) to (?:demonstrate|show|reveal|identify)",
    r"(?:(?:is|are|appears?) )?(?:[a-z]+ly )?unlikely(?: to (?:be|represent|reflect|indicate))?",
    r"(?:from|of) (?:an? |the )?(?:now )?resolved",
    r"neither",
    r"nor",
    r"never",
    r"den(?:y|ies)",
)
DENY_AFTER = (
    r"(?:is|are|was|were) (?:now )?(?:absent|excluded|ruled out|resolved|gone)",
    r"(?:has|have)(?: now| since| completely| essentially| subsequently)* "
    r"(?:resolved|cleared|disappeared)",
    r"no longer (?:[a-z]+ )?(?:seen|present|visible|visuali[sz]ed|identified|evident|appreciated)",
    rf"(?:(?:is|are|was|were) )?{_NOT_SEEN}",
    r"(?:is|are|appears?) (?:with)?in (?:the )?(?:limits of normal|normal limits)",
    r"(?:is|are|appears?) (?:[a-z]+ )?(?:unlikely|improbable)(?! to\b)",
    r"(?:unlikely|negative)(?= ?(?:[.,;]|$)| (?:given|at|in|on|based)\b)",
    r"(?:has|have) been (?:removed|ruled out|excluded|drained|evacuated|discontinued|resected|"
    r"withdrawn(?! (?:by|to|slightly|approximately|about|\d)))",
    r" ?[:-] ?(?:none|(?:no|negative|absent|resolved|excluded|unlikely)(?= ?(?:[.,;]|$)))",
    rf" ?: ?{_NOT_SEEN}",
)
DENY_NEXT = (r"(?:removal|extraction)(?! of)",)  # turns the word before it alone: "chest tube removal"
# Behind a device: it is not there yet.
WANTED = (
    r" (?:placement |insertion )?(?:(?:is|are|(?:would|may|should) be) )?"
    r"(?:recommended|advised|suggested|considered|needed|required)\b"
)
DENY_AROUND = (r"(?:is|are|was|were|has|have) not(?: been)?", r"resolved", r"absent", r"excluded")
DOUBT_BEFORE = (
    r"(?:may|might|could|can|would|cannot|can not|can't)(?: [a-z]+){0,3}? (?:represents?|reflect|be|"
    r"exclude|indicate|suggest|relate|ruled?)(?: out)?(?: (?:due|related|secondary))?(?: to)?",
    r"(?:may|might|could)",
    r"(?:not (?:entirely |completely )?|unable to |difficult to )exclud(?:e|ing)",
    r"(?:unclear|uncertain) (?:whether|if)",
    r"suggest(?:s|ed|ing|ive|ion)?(?: of)?",
    r"possib(?:le|ly|ility)(?: of)?",
    r"question(?:able|ed)?(?: of)?",
    r"equivocal",
    r"suspect(?:ed)?",
    r"suspicio(?:us|n)(?: for| of)?",
    r"concern(?:ing)?(?: for| of)",
    r"worrisome for",
    r"(?:rule|ruling) out",
    r"r/o",
    r"differential (?:diagnosis )?(?:includes?|considerations?)",
    r"(?:perhaps|potential(?:ly)?|presumabl[ye]|maybe|artifactual(?:ly)?)",
    r"favou?r(?:s|ed|ing)?(?! over)(?: to (?:be|represent|reflect))?",
    # advice: what is to be followed until it has gone is not said to be there or gone
    r"(?:to|until)(?: (?:document|confirm|ensure|assure|verify|assess|evaluate|demonstrate|monitor))?(?: for)?"
    r"(?: [a-z]+)?? (?:resolution|clearing|clearance|stability|improvement) (?:of|in)(?: the)?",
    r"consider(?! (?:[a-z-]+ ){0,4}?(?:ct|cta|mri|pet|tomogra\w+|ultraso\w+|radiogra\w+|films?|views?|x-?rays?|imaging|"
    r"follow\w*|stud(?:y|ies)|exam\w*|evaluat\w+|correlat\w+|repeat\w*|further|biopsy)\b)",
    r"(?:difficult|hard|impossible|not possible|unable|cannot) (?:to )?(?:distinguish|differentiate|separate)",
    r"(?:(?:is|are) )?not (?:[a-z]+ )?clear (?:whether|if)",
    r"^(?:while |although )?in (?:the|an?) (?:appropriate|proper|right|correct) clinical (?:setting|context)",
    r"(?<!age-)(?<!age )indeterminate",
    r"(?:less likely|doubtful)(?! than)",
    r"^if(?=(?: [a-z]+){1,4}? (?:is|are) (?:present|real|there)\b)",
)
DOUBT_AFTER = (
    r"(?:is|are|remains?) (?:a |also )?(?:possib(?:le|ility)|question(?:able|ed)|suspected|considered|"
    r"equivocal)",
    r"(?:cannot|can not|could not|can't) be (?:[a-z]+ )?(?:excluded|ruled out)",
    r"(?:(?:is|are|but) )?not (?:yet |entirely |completely )?(?:excluded|ruled out)",
    r"(?:is|are) difficult to exclude",
    r"(?:(?:is|are|appears?|seems?) )?(?:[a-z]+ )?(?:less likely|doubtful)(?= ?(?:[.,;]|$))",
    r"possible(?= ?(?:[.;]|$))",
    r"suspected(?= ?(?:[.,;]|$)| (?:in|on|at|within|clinically)\b)",
    r"(?:is|are) in the differential",
    r"should be considered",
    r"(?:may|might|could) (?:[a-z]+ )?be (?:[a-z]+ )?present",
    r"(?:(?:is|are|was|were|may|might) )?not (?:be )?(?:well |well-|fully |optimally |adequately )(?:seen|identified|"
    r"visuali[sz]ed|demonstrated|evaluated|assessed)",
    r"(?:may|might) not be (?:[a-z]+ )?(?:seen|identified|visuali[sz]ed|demonstrated|detected|visible|apparent)",
    r"(?:is|are) favou?red(?! over)",
    r" ?: ?(?:possibl[ye]|questionable|suspected|equivocal|uncertain|cannot be excluded)(?= ?(?:[.,;]|$))",
)
DOUBT_AROUND = (r"(?:is |are )?favou?red over", r"\?", r"if any", r"(?:is |are )?more likely than")
# Turns what stands before it in the same item of a list: "opacity, pneumonia in the right clinical setting".
DOUBT_ITEM = (r"in (?:the|an?) (?:appropriate|proper|right|correct) clinical (?:setting|context)",)
# "A versus B" states A, the reading put first, and doubts B (bench/language.md); a doubt before A reaches both.
ALTERNATIVE = (r"versus", r"vs\.?")
# What follows belongs to the patient's past or to a question, and is no statement about this image.
HISTORY = (
    r"(?:history|h/o|hx)(?: of)?",
    r"indication(?: of|:)?",
    r"(?:prior|previous|old|remote)(?: [a-z]+){0,2}? (?=infect|(?:[a-z]+ )?pneumonia)",
    # taken out: "status post resection of a mass"
    r"(?:(?:status post|s/p)(?: [a-z]+){0,3}? )?(?:resection|excision) of(?: the)?",
    r"evaluat(?:e|ion)(?: [a-z]+)? (?:for|of)",
    r"correlat[a-z]+(?: [a-z]+)? (?:for|as to)",
    r"(?:to|and) exclude",
    r"(?:symptoms|risk) of",
    r"if(?=(?: [a-z]+){1,4}? (?:is|are) (?:[a-z]+ )?suspected\b)",
    r"if(?: there (?:is|are))?(?: [a-z]+){0,2}? (?:concern|suspicion|suspected)(?: for| of)?",
)
# Words of degree, the most severe first.
SEVERITY = (
    (SEVERE, (r"severe(?:ly)?", r"marked(?:ly)?", r"large", r"massive(?:ly)?", r"extensive(?:ly)?", r"advanced")),
    (MODERATE, (r"moderate(?:ly)?",)),
    (
        MILD,
        (
            *(r"mild(?:ly)?", r"minimal(?:ly)?", r"slight(?:ly)?", r"small", r"trace", r"tiny", r"subtle", r"faint"),
            *(r"minor", r"borderline", r"early"),
        ),
    ),
)
# Where the reach of a cue ends.
SCOPE_END = (
    r"but",
    r"however",
    r"(?:al)?though",
    r"except(?:ing)?(?: for)?",
    r"(?:aside|apart) from",
    r"other than",
    r"besides",
    r"otherwise",
    r"with",
    r"which(?! (?:has|have|is|are)(?: now| since| completely)* (?:resolved|cleared|gone|absent|no longer)\b)",
    r"while",
    r"whereas",
    r"(?:secondary|due|related) to",
    r"because of",
    r"despite",
    r"in (?:spite|the setting) of",
    r"(?:after|following|status post|s/p)",
    r";",
    r"\.(?= |$)",
    r":",
    r"(?:,|and) (?=(?:there|the|heart|lungs?|both|it|this|these)\b)",
    r"(?:there is|there are)",
    r"and (?=current(?:ly)?\b)",
)
# Here it goes on about what stands before: "a nodule, if any, is not seen".
GOES_ON = (r"and (?=(?:is|are|has|have)\b)",)
RESUMES = (r", (?=(?:is|are|has|have)\b)",)
# Where a denial ends and a doubt goes on: "no effusion, mild edema" but "may be atelectasis, mild edema".
DENIAL_END = (
    r"(?:,|and) (?=(?:extensive|diffuse|multiple|several|numerous|scattered|marked|severe|large|enlarged)\b"
    r"(?![^.;]*\b(?:or|nor)\b))",
    r"(?:,|and) (?=(?:a |an |some )?(?:mild|minimal|moderate|stable|unchanged|persistent|small|trace|tiny|"
    r"old|chronic|probable|probably|possible|likely|calcified|low)(?:ly)?\b(?! or large))",
    # another clause with a verb of its own: "removal of the tube, sternal wires are intact"
    r", (?=(?!or\b|nor\b|and\b|if\b|no\b|with)(?:[a-z]+ ){1,3}(?:is|are|remains?) "
    rf"(?!(?:{_SEEN}|suspected|possible)\b))",
    r", (?=(?:left|right|bilateral|bibasilar)\b(?![^.;]*\b(?:or|nor)\b))",
    r"(?:seen|identified|noted|present|visuali[sz]ed|demonstrated|evident)(?=,(?! ?(?:or|nor|and|no|neither)\b))",
)
# Doubt between two things ("opacity, edema favored over infection") does not reach back over a list that has no "or".
LIST_END = (r",(?! ?(?:or|versus|vs|favou?red)\b)(?![^.;]*?, or\b)",)

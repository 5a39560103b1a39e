"""What supports a patient or was implanted, for lower-cased text; `phrases` holds the names of all else."""

# What may break and is no bone.
PARTS = r"(?:wires?|leads?|clips?|screws?|rods?|sutures?|catheters?|hardware)"
DEVICES = (
    r"(?:endotracheal|tracheostomy|nasogastric|orogastric|enteric|feeding|dobbhoff|chest|thoracostomy|gastrostomy|"
    r"nephrostomy|drain(?:age)?|ng|nsg|og|et)"
    r"(?:/[a-z]+)? tubes?",
    r"(?:venous|central|picc|ij|jugular|subclavian|swan-?ganz|pulmonary artery|dialysis|"
    r"port(?:-?a-?cath)?|mediport|infusion)"
    r"(?: [a-z]+){0,2}? (?:lines?|catheters?|ports?)",
    r"catheters?",
    r"picc",
    r"port-?a-?cath",
    r"(?:pace-?makers?|pacer|icd|aicd|defibrillators?)(?: (?:leads?|wires?))?",
    r"(?:pacer|pacing|icd|monitor(?:ing)?|ekg|ecg)(?: [a-z]+)? (?:leads?|wires?|pads?|device)",
    r"(?:support|single chamber|dual chamber|electrical) devices?",
    r"(?:artificial|mechanical|bioprosthetic) (?:[a-z]+ ){0,2}valves?",
    r"(?:suture|osteosynthesis) materials?",
    r"(?:sternotomy|sternal) (?:wires?|sutures?)",
    r"(?:surgical|mediastinal|cabg|vascular) (?:clips?|sutures?|staples?)",
    r"(?:orthopedic|spinal|surgical|fixation|fusion) (?:hardware|rods?|plates?|devices?)",
    r"(?:(?:endo)?prosthe(?:tic|sis)|stents?|neurostimulators?|stimulators?|"
    r"intra-?aortic balloon(?: pump)?)(?: (?:valves?|devices?))?",
    r"(?:tubes? and lines?|lines? and tubes?|tubes?|devices?|hardware|screws?|cannulas?|coils?|occluder|generator)",
    r"(?:valve|joint|shoulder) (?:replacement|prosthesis|arthroplasty)",
    r"(?<!to )drains?",
)

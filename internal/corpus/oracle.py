"""Says what LIEF reads in libraries: a line of JSON for each path on the standard input, a list with one object for each slice.

Only what LIEF reads by itself is said here: which symbols count as exported is decided anew from what they are.
"""
import json
import sys

import lief

lief.logging.disable()

ELF_ARCH = {
    "X86_64": "amd64", "I386": "386", "AARCH64": "arm64", "ARM": "arm", "PPC64": "ppc64le", "S390": "s390x",
    "MIPS": "mips64le", "RISCV": "riscv64", "LOONGARCH": "loong64",
}
MACHO_ARCH = {"X86_64": "amd64", "ARM64": "arm64", "X86": "386"}
PE_ARCH = {"AMD64": "amd64", "I386": "386", "ARM64": "arm64"}


def word(enum):
    return str(enum).rsplit(".", 1)[-1]


def elf(b):
    flags = flags1 = 0
    facts = {"arch": ELF_ARCH[word(b.header.machine_type)], "needed": [], "soname": "", "runpath": []}
    tags = set()
    rpath = runpath = None
    for e in b.dynamic_entries:
        tag = word(e.tag)
        tags.add(tag)
        if tag == "NEEDED":
            facts["needed"].append(e.name)
        elif tag == "SONAME":
            facts["soname"] = e.name
        elif tag == "RUNPATH":
            runpath = e.runpath.split(":")
        elif tag == "RPATH":
            rpath = e.rpath.split(":")
        elif tag == "FLAGS":
            flags = e.value
        elif tag == "FLAGS_1":
            flags1 = e.value
    facts["runpath"] = runpath or rpath or []
    names = set()
    for s in b.dynamic_symbols:
        if (s.shndx == 0 or word(s.binding) not in ("GLOBAL", "WEAK", "GNU_UNIQUE")
                or s.other & 3 not in (0, 3) or word(s.type) in ("SECTION", "FILE") or not s.name):
            continue
        v = s.symbol_version
        if v is not None and v.value & 0x8000 and v.value & 0x7FFF > 1:
            continue
        names.add(s.name)
    facts["exports"] = sorted(names)
    glibc = (0,)
    for need in b.symbols_version_requirement:
        for aux in need.get_auxiliary_symbols():
            name = {"GLIBC_ABI_DT_RELR": "GLIBC_2.36"}.get(aux.name, aux.name)
            if name.startswith("GLIBC_2."):
                glibc = max(glibc, tuple(int(n) for n in name[6:].split(".")))
    facts["minGlibc"] = ".".join(map(str, glibc)) if glibc != (0,) else ""
    kinds = {word(s.type): s for s in b.segments}
    now = "BIND_NOW" in tags or flags & 8 != 0 or flags1 & 1 != 0
    facts["bindNow"] = now
    facts["relro"] = "none" if "GNU_RELRO" not in kinds else "full" if now else "partial"
    facts["staticTLS"] = flags & 0x10 != 0
    facts["textRel"] = "TEXTREL" in tags or flags & 4 != 0
    facts["writeExec"] = any(word(s.type) == "LOAD" and int(s.flags) & 3 == 3 for s in b.segments)
    return facts


def macho(b):
    facts = {"arch": MACHO_ARCH[word(b.header.cpu_type)], "needed": [], "soname": "", "runpath": []}
    trie = None  # the names in it
    for c in b.commands:
        kind = word(c.command)
        if kind in ("LOAD_DYLIB", "LOAD_WEAK_DYLIB", "REEXPORT_DYLIB", "LOAD_UPWARD_DYLIB", "LAZY_LOAD_DYLIB"):
            facts["needed"].append(c.name)
        elif kind == "ID_DYLIB":
            facts["soname"] = c.name
        elif kind == "RPATH":
            facts["runpath"].append(c.path)
        elif kind == "BUILD_VERSION":
            facts["minOS"] = list(c.minos)
        elif kind.startswith("VERSION_MIN"):
            facts["minOS"] = list(c.version)
        elif kind in ("DYLD_EXPORTS_TRIE", "DYLD_INFO", "DYLD_INFO_ONLY"):
            found = {e.symbol.name for e in c.exports if e.has_symbol}
            if found or trie is None:
                trie = found
    version = facts.pop("minOS", None)
    facts["minOS"] = "" if version is None else ".".join(map(str, version[:2] + [n for n in version[2:3] if n]))
    names = trie
    if names is None:
        names = set()
        for s in b.symbols:
            raw = s.raw_type
            if raw & 0xE0 == 0 and raw & 1 and not raw & 0x10 and raw & 0xE in (2, 0xA, 0xE):
                names.add(s.name)
    facts["exports"] = sorted(n[1:] for n in names if n.startswith("_"))
    facts["signed"] = b.has_code_signature
    return facts


def pe(b):
    o = b.optional_header
    flags = o.dll_characteristics
    facts = {"arch": PE_ARCH[word(b.header.machine)], "soname": "", "runpath": [], "exports": []}
    facts["needed"] = [i.name for i in b.imports] + [i.name for i in b.delay_imports]
    facts["minOS"] = "%d.%d" % (o.major_subsystem_version, o.minor_subsystem_version)
    export = b.get_export()
    if export is not None:
        facts["soname"] = export.name
        facts["exports"] = sorted({e.name for e in export.entries if e.name})
    facts["signed"] = b.data_directory(lief.PE.DataDirectory.TYPES.CERTIFICATE_TABLE).size != 0
    facts["highEntropy"] = flags & 0x20 != 0
    facts["guardCF"] = flags & 0x4000 != 0
    return facts


for line in sys.stdin:
    path = line.rstrip("\n")
    try:
        if lief.is_elf(path):
            answer = [elf(lief.ELF.parse(path))]
        elif lief.is_macho(path):
            fat = lief.MachO.parse(path)  # its slices are gone when nothing holds it
            answer = [macho(fat.at(i)) for i in range(fat.size)]
        elif lief.is_pe(path):
            answer = [pe(lief.PE.parse(path))]
        else:
            answer = []
    except Exception as e:  # its own fault is reported, and not the end
        answer = {"fault": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(answer), flush=True)

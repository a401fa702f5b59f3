"""An import contract that import-linter does not bring: features meet only through each other's service."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class FeatureInsides(Contract):
    """Modules of the given names inside a feature are imported by that feature only.

    A feature is a package with a `service` module, so a new one is covered without a word here. `allowed_importers`
    are the modules that put the application together.
    """

    insides = fields.SetField(subfield=fields.StringField())
    allowed_importers = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        allowed = {str(name) for name in self.allowed_importers}
        names = {str(name) for name in self.insides}
        faults = []
        for service in sorted(graph.find_matching_modules("trimtab.*.service")):
            feature = service.removesuffix(".service")
            for inside in sorted(f"{feature}.{name}" for name in names):
                if inside not in graph.modules:
                    continue
                faults += [
                    (importer, inside)
                    for importer in sorted(graph.find_modules_that_directly_import(inside))
                    if not importer.startswith(f"{feature}.") and importer not in allowed
                ]
        return ContractCheck(kept=not faults, metadata={"faults": faults})

    def render_broken_contract(self, check: ContractCheck) -> None:
        faults: list[tuple[str, str]] = check.metadata["faults"]
        for importer, inside in faults:
            service = inside.rpartition(".")[0] + ".service"
            output.print_error(f"{importer} imports {inside}; call {service} instead.", bold=False)
        output.new_line()

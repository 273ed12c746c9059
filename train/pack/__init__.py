"""From a run to a bundle: back ends, graph, export."""

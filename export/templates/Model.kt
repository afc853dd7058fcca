// Written by an export: what Pocketseq.kt has to know of the model.

package pocketseq

val {{ camel }}Model = ModelDescription(
    file = "{{ model.file }}",
    bytes = {{ model.bytes }},
    sha256 = "{{ model.sha256 }}",
    signatures = listOf(
        // Source and target length in code points, hypotheses.
{% for name, source, target, hypotheses in signatures %}
        Signature("{{ name }}", {{ source }}, {{ target }}, {{ hypotheses }}),
{% endfor %}
    ),
)

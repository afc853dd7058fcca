// Written by an export: what Pocketseq.swift has to know of the model.

public let {{ camel }}Model = ModelDescription(
    file: "{{ model.file }}",
    bytes: {{ model.bytes }},
    sha256: "{{ model.sha256 }}",
    signatures: [
{% for name, source, target, hypotheses in signatures %}
        Signature(
            name: "{{ name }}", sourceLength: {{ source }}, targetLength: {{ target }},
            hypotheses: {{ hypotheses }}),
{% endfor %}
    ]
)

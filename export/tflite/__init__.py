"""The ``.tflite`` file: conversion, quantization, metadata, container."""

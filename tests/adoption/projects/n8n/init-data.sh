#!/bin/bash
set -e
echo prepared
